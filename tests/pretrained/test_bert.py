"""BERT's folders of Hugging Face's library: the same numbers on both sides, and what cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from texts import VERSES

import charlm
from charlm.archs.bert import Bert
from charlm.config import DataSpec, Lengths
from charlm.model import PAD
from charlm.objectives.masked import Masked
from charlm.plan import Plan
from charlm.pretrained.families import load

transformers = pytest.importorskip("transformers")

Typed = Callable[..., tuple[int, str, str]]
SIZES = {"layers": 2, "hidden_size": 32, "heads": 4, "positions": "learned", "next_sentence": True}


@torch.no_grad()
def test_bert_gives_the_logits_of_transformers_with_its_weights() -> None:
    """Both heads, with segments and padded rows."""
    family = load("bert")
    plan = Plan.of({"arch": "bert", **SIZES})
    torch.manual_seed(0)
    ours = plan.build(DataSpec(27, Lengths.of_text(24))).eval()
    for p in ours.parameters():
        p.add_(0.1 * torch.randn_like(p))
    config, problems = family.config(plan, ours)
    assert problems == []
    theirs = transformers.BertForPreTraining(transformers.BertConfig(vocab_size=30, **config)).eval()
    weights: dict[str, Any] = {}
    for name, p in ours.named_parameters():
        weights |= {family.full(theirs): t for theirs, t in family.source(name).to_theirs(p).items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert {name.rpartition("decoder.")[2] for name in missing} <= {"weight", "bias"}  # tied
    ids = torch.randint(30, (3, 24))
    segments = (torch.arange(24) >= torch.tensor([[9], [5], [12]])).long()
    mask = torch.arange(24) < torch.tensor([[24], [17], [20]])
    said = theirs(ids, attention_mask=mask.long(), token_type_ids=segments)
    assert isinstance(ours, Bert)
    vectors = ours.encode(ids.masked_fill(~mask, PAD), segments)
    torch.testing.assert_close(ours.head(vectors)[mask], said.prediction_logits[mask][:, :27], atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.judge(vectors), said.seq_relationship_logits, atol=1e-4, rtol=0)
    assert float(said.prediction_logits[mask].softmax(-1)[:, 27:].max()) == 0, "symbols are never guessed"


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        (["--tokenizer", "bytebpe", "--vocab-size", "300"], "BertForMaskedLM"),
        (["--tokenizer", "char", "--next-sentence"], "BertForPreTraining"),
        (["--tokenizer", "char", "--min-count", "9"], "BertForMaskedLM"),
        (["--tokenizer", "byte"], "BertForMaskedLM"),
    ],
)
def test_a_run_is_opened_by_transformers_and_comes_back(settings: list[str], model: str, typed: Typed) -> None:
    Path("verses.txt").write_text(VERSES)
    sizes = ["--layers", "1", "--hidden-size", "16", "--heads", "2", "--steps", "4", "--seq-len", "32", "--lr", "1e-2"]
    assert typed("train", "verses.txt", "--preset", "bert-tiny", *settings, *sizes, "--out", "run", "--quiet")[0] == 0
    code, out, _ = typed("export", "run", "out")
    assert code == 0
    assert json.loads(Path("out/config.json").read_text())["architectures"] == [model]
    assert typed("import", "out", "--out", "back")[0] == 0
    ours, back = charlm.load("run"), charlm.load("back")
    assert back.objective == Masked(next_sentence=model == "BertForPreTraining")
    assert back.tokenizer.to_json() == ours.tokenizer.to_json()
    named, other = dict(ours.model.named_parameters()), dict(back.model.named_parameters())
    assert all(torch.equal(p, other[name]) for name, p in named.items())

    theirs = transformers.AutoModelForMaskedLM.from_pretrained("out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    given = tokenizer("The l[MASK]mp is out", return_tensors="pt")
    symbol = ours.tokenizer.vocab_size
    expected = [*ours.tokenizer.encode("The l"), symbol, *ours.tokenizer.encode("mp is out")]
    assert given["input_ids"][0].tolist() == expected
    with torch.no_grad():
        logits = theirs(**given).logits[..., :symbol]
        torch.testing.assert_close(ours.model(torch.tensor([expected])), logits, atol=1e-4, rtol=0)
    exec(out.partition("\n\n")[2].replace("print(", "said = ("), lines := {})
    assert [one["score"] for one in lines["said"]] == sorted((one["score"] for one in lines["said"]), reverse=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.txt": "[PAD]\n[UNK]\n"}, "is WordPiece, which loses blanks"),
        ({"tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {}}}'}, "is WordPiece, which loses blanks"),
        ({"tokenizer.json": '{"model": {"type": "BPE", "vocab": {}}}'}, "must add [MASK], [CLS], [SEP] as the last"),
    ],
)
def test_a_tokenizer_that_does_not_give_a_text_back_is_refused(
    files: dict[str, str], message: str, tmp_path: Path, typed: Typed
) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    transformers.BertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=64).save_pretrained(folder)
    code, _, err = typed("import", folder)
    assert code == 2
    assert message in " ".join(err.split())
    assert not Path("runs").exists()


def test_a_run_with_other_positions_is_named_by_its_option(typed: Typed) -> None:
    Path("verses.txt").write_text(VERSES)
    sizes = ["--layers", "1", "--hidden-size", "16", "--steps", "1", "--seq-len", "16"]
    assert typed("train", "verses.txt", "--arch", "bert", *sizes, "--out", "run", "--quiet")[0] == 0
    code, _, err = typed("export", "run", "out")
    assert code == 2
    assert "BertForMaskedLM: --positions is rotary and would have to be learned" in err
