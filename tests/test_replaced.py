"""Telling which tokens were replaced: the losses of ELECTRA, what learns from which, and what its runs are for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from small_runs import labelled_words
from test_archs import trainer
from texts import VERSES
from torch import Tensor

import charlm
from charlm.config import DataSpec, Lengths
from charlm.errors import SettingsError
from charlm.model import PAD
from charlm.objectives._base import Batch, Loss
from charlm.objectives._detector import Detector, drawn
from charlm.objectives._hiding import MASK
from charlm.objectives.masked import Masked
from charlm.objectives.replaced import Replaced
from charlm.plan import Plan
from charlm.pretrained.families import load
from charlm.progress import result
from charlm.runs import checkpoint, folder

Typed = Callable[..., tuple[int, str, str]]
VOCABULARY = 27
SPEC = DataSpec(VOCABULARY, Lengths.of_text(24))
SIZES = {"arch": "bert", "objective": "replaced", "layers": 2, "hidden_size": 32, "heads": 4, "dropout": 0.0}


def build(**settings: Any) -> Any:
    """A small network with weights that are far from its start."""
    torch.manual_seed(0)
    network = Plan.of({**SIZES, **settings}).build(SPEC).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network


def shown(*lengths: int, seed: int = 0) -> Batch:
    """A batch of texts of so many tokens."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(VOCABULARY, (len(lengths), 25), generator=rng)
    rows = rows.masked_fill(torch.arange(25) >= torch.tensor(lengths)[:, None], PAD)
    return Replaced().batch((rows,), SPEC._replace(symbols=1), rng)


def certain(network: Any, token: int) -> Any:
    """A network that puts one token into all hidden places."""
    with torch.no_grad():
        network.generator.head.guess.bias[token] = 1e4
    return network


def mean(loss: Loss, batch: Batch) -> Tensor:
    """The discriminator's nats per token."""
    return loss.nats / (batch.targets != PAD).sum()


# ---- the paper's losses


def electra(kind: str, network: Any, width: int, heads: int) -> Any:
    """The network of transformers that one of ours should be, in fp64, with the embedding of ours."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ElectraConfig(
        vocab_size=VOCABULARY + 1,
        embedding_size=32,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=24,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=None,
        attn_implementation="eager",
    )
    theirs = getattr(transformers, kind)(config).double()
    family, weights = load("bert"), dict[str, Tensor]()
    renamed = {"embed_norm.0": "embed_norm", "embed_norm.1": "embeddings_project"}
    for name, p in network.named_parameters(remove_duplicate=False):
        module, _, weight = name.rpartition(".")
        if name.startswith("head."):
            continue
        if renamed.get(module) == "embeddings_project":
            weights[f"{renamed[module]}.{weight}"] = p
        else:
            weights |= family.source(f"{renamed.get(module, module)}.{weight}").to_theirs(p)
    missing, unexpected = theirs.electra.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == ([], [])
    return theirs


@pytest.mark.parametrize(("share", "width", "heads"), [(0.25, 8, 1), (1.0, 32, 4)])
def test_both_losses_and_their_gradient_are_those_of_transformers(share: float, width: int, heads: int) -> None:
    """With the embedding of one tied to that of the other by hand, over rows that are padded."""
    ours = build(positions="learned", generator_width=share).double()
    assert (ours.generator.config.hidden_size, ours.generator.config.heads) == (width, heads)
    generator, head = electra("ElectraForMaskedLM", ours.generator, width, heads), ours.generator.head
    never = torch.tensor([-1e30], dtype=torch.double)  # guesses of the symbol, which ours does not guess
    generator.generator_predictions.dense.load_state_dict(head.dense.state_dict())
    generator.generator_predictions.LayerNorm.load_state_dict(head.norm.state_dict())
    generator.generator_lm_head.bias.data = torch.cat([head.guess.bias.data, never])
    discriminator, head = electra("ElectraForPreTraining", ours.body, 32, 4), ours.head
    discriminator.discriminator_predictions.dense.load_state_dict(head.dense.state_dict())
    discriminator.discriminator_predictions.dense_prediction.load_state_dict(head.answer.state_dict())
    discriminator.electra.embeddings = generator.electra.embeddings

    batch, objective = shown(25, 18, 9), Replaced(generator_width=share)
    torch.manual_seed(3)
    loss = objective.loss(ours, batch, ())
    torch.manual_seed(3)
    text = ours(batch.tokens, batch.targets).text
    real, hidden = batch.tokens != PAD, batch.targets != PAD
    mask, true = real.long(), torch.where(hidden, batch.targets, batch.tokens)
    guessing = generator(
        batch.tokens.clamp(min=0), attention_mask=mask, labels=batch.targets.masked_fill(~hidden, -100)
    ).loss
    telling = discriminator(text.clamp(min=0), attention_mask=mask, labels=(text != true).long()).loss
    assert 0 < int((text != true).sum()) <= int(hidden.sum())
    both = guessing + 50 * telling
    torch.testing.assert_close(mean(loss, batch).double(), telling.double(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close((loss.minimised / hidden.sum()).double(), both.double(), atol=1e-6, rtol=1e-6)
    (loss.minimised / hidden.sum()).backward()
    both.backward()
    embedding = generator.electra.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(ours.body.embed.weight.grad, embedding, atol=1e-6, rtol=1e-5)


def test_tokens_are_drawn_by_their_shares() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    torch.manual_seed(0)
    counts = drawn(shares.log().expand(4, 20_000, 5)).flatten().bincount(minlength=5)
    assert counts[-1] == 0
    torch.testing.assert_close(counts / 80_000, shares, atol=0.01, rtol=0)


def test_a_guess_that_is_right_counts_as_the_token_that_stood_there() -> None:
    network = certain(build(), 3)
    for token, replaced in ((3, False), (5, True)):
        text = torch.full((2, 25), token)
        batch = Replaced().batch((text,), network.spec, torch.Generator().manual_seed(0))
        given = torch.where(batch.targets == PAD, token, 3)
        odds = network.odds(given)
        expected = F.softplus(torch.where((given == 3) & replaced, -odds, odds)).mean()
        torch.testing.assert_close(mean(Replaced().loss(network, batch, ()), batch), expected)


def test_a_token_that_is_asked_for_and_left_as_it_was_may_be_replaced_too_and_no_other_is() -> None:
    network, batch = certain(build(), 3), shown(25, 25, 25, 25)
    text = network(batch.tokens, batch.targets).text
    assert torch.equal(text, torch.where(batch.targets == PAD, batch.tokens, 3))
    assert (batch.tokens == VOCABULARY + MASK).any()
    assert ((batch.tokens == batch.targets) & (batch.targets != 3)).any()


def test_padding_is_not_judged() -> None:
    network, batch = certain(build(), 3), shown(9)
    alone = Batch(batch.tokens[:, :9], batch.targets[:, :9])
    for objective in (Replaced(), Replaced(detection_weight=1.0)):
        padded, plain = (objective.loss(network, some, ()) for some in (batch, alone))
        torch.testing.assert_close(padded.nats, plain.nats)
        torch.testing.assert_close(padded.minimised, plain.minimised)


def test_each_half_learns_from_its_own_task_and_they_share_the_embedding_alone() -> None:
    network, batch = build(positions="learned"), shown(25, 25)
    shared = {name for name, _ in network.body.named_parameters() if not name.startswith("blocks.")}
    assert shared == {
        "embed.weight",
        "positions.embed.weight",
        "segments.weight",
        "embed_norm.weight",
        "embed_norm.bias",
    }
    shared = {f"body.{name}" for name in shared}
    for telling in (True, False):
        network.zero_grad()
        loss = Replaced(detection_weight=1.0).loss(network, batch, ())  # with which the penalty is the guesses alone
        (loss.nats if telling else loss.penalty).backward()  # type: ignore[union-attr]
        learnt = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        own = ("body.", "head.") if telling else ("generator.",)
        assert learnt == shared | {name for name, _ in network.named_parameters() if name.startswith(own)}


@pytest.mark.parametrize(
    "settings", [{"positions": "sinusoidal"}, {"positions": "none"}, {"heads": None}, {"norm_place": "pre"}]
)
def test_every_form_of_the_encoder_has_a_narrower_twin(settings: dict[str, Any]) -> None:
    network, batch = build(**settings), shown(25, 7)
    assert network.generator.config.hidden_size == 8
    Replaced().loss(network, batch, ()).minimised.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


# ---- a training


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "ema": 0.9, "optimizer": "muon", "precision": "bf16"}])
def test_stopping_and_resuming_changes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    """Across an epoch, with dropout; what is drawn for hidden places depends on seed and step alone."""
    changes = {"dropout": 0.2}
    straight = trainer("bert", goal="replaced", steps=10, changes=changes, **settings)
    list(straight)
    first = trainer("bert", goal="replaced", steps=10, changes=changes, **settings)
    list(itertools.islice(first, 6))
    checkpoint.save_training(tmp_path / "t.safetensors", first, {})
    torch.manual_seed(12345)
    second = trainer("bert", goal="replaced", steps=10, changes=changes, **settings)
    checkpoint.load_training(tmp_path / "t.safetensors", second)
    list(second)
    for a, b in zip(straight.whole.parameters(), second.whole.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_score_is_of_the_same_replaced_tokens_whatever_the_run_and_its_rows(
    detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = charlm.load(detector)
    spec = writer.vocabularies.spec(Lengths.of_text(16))
    ids = writer.tokenizer.encode(VERSES).astype(np.uint8)
    part = type("Part", (), {"ids": ids, "chars": len(VERSES), "bytes": len(VERSES)})
    judged = list[Tensor]()
    odds = Detector.odds

    def listening(network: Detector, tokens: Tensor) -> Tensor:
        judged.append(tokens[tokens != PAD])
        return odds(network, tokens)

    monkeypatch.setattr(Detector, "odds", listening)
    first, again = (result(writer.objective.score(writer.model, part)) for _ in range(2))
    other = Plan.of({**SIZES, "mask": "phrase"}).build(spec)
    second = result(Replaced(mask="phrase").score(other, part))
    assert first == again
    assert first.tokens == second.tokens == len(ids)
    texts = torch.cat(judged).view(3, -1)
    assert torch.equal(texts[0], texts[1])
    assert torch.equal(texts[0], texts[2])
    changed = float((texts[0] != torch.from_numpy(ids.astype(np.int64))).float().mean())
    assert 0.12 < changed < 0.15
    assert first.value < second.value
    said = first.figures["generator_nats_per_masked_token"]
    assert said == pytest.approx(result(Masked().score(writer.model.generator, part)).value)


def test_commands_do_what_they_can_and_refuse_the_rest_in_one_line(detector: Path, verses: Path, typed: Typed) -> None:
    Path("text.txt").write_text("The lamp is out.")
    score = json.loads(typed("eval", detector, "--json")[1])
    assert 0 < score["nats_per_judged_token"] < 0.45
    assert 0.8 < score["accuracy"] <= 1
    code, out, _ = typed("fill", detector, "The l[MASK]mp is out", "--quantize", "int8", "--json")
    assert code == 0
    assert json.loads(out)["gaps"][0]["guesses"][0]["share"] > 0.05
    assert "pseudo-bits per byte" in typed("score", detector, "text.txt")[1]
    for words in (
        ("info", detector),
        ("features", detector, "text.txt", "--out", "vectors.npy"),
        ("similar", detector, "--text", "The lamp"),
        ("attend", detector, "--text", "The lamp is out"),
        ("ablate", detector, "--max-bytes", "200"),
        ("plan", verses, "--arch", "bert", "--objective", "replaced", "--steps", "5", "--no-probe"),
        ("prune", detector, "--share", "0.3", "--out", "pruned"),
        ("eval", "pruned"),
    ):
        code, _, err = typed(*words)
        assert code == 0, (words, err)
    for words, why in (
        (("sample", detector), "trained with --objective replaced; use charlm fill"),
        (("lens", detector, "--text", "a"), "trained with --objective replaced; use charlm fill"),
        (("export", detector, "folder"), "--objective is replaced and would have to be masked"),
        (("translate", detector, "text.txt"), "trained with --objective replaced; use charlm fill"),
    ):
        code, out, err = typed(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert why in err


def test_its_score_stands_in_no_ranking_with_that_of_hidden_tokens(typed: Typed, verses: Path) -> None:
    sizes = ["--layers", "1", "--hidden-size", "16", "--steps", "2", "--quiet"]
    for name, settings in {"masked": [], "replaced": ["--objective", "replaced"]}.items():
        assert typed("train", verses, "--arch", "bert", *settings, *sizes, "--out", f"runs/{name}")[0] == 0
    said = "scores in different measures (nats/masked token, nats/judged token) do not compare"
    for words in (
        ("runs/masked", "runs/replaced"),
        (verses, "--arch", "bert:objective=masked,bert:objective=replaced", "--steps", "1"),
    ):
        code, _, err = typed("compare", *words)
        assert code == 2
        assert said in err
    code, _, err = typed(
        *("compare", verses, "--steps", "1", "--arch"),
        "bert:objective=replaced:tokenizer=char,bert:objective=replaced:tokenizer=byte",
    )
    assert code == 2
    assert "nats per judged token depend on what a token is" in err
    names = {info.path.name: info for info in folder.list_runs()}
    assert folder.best_of([names["replaced"], names["masked"]]) is names["masked"]
    assert folder.best_of([names["masked"], names["replaced"]]) is names["replaced"]


@pytest.mark.slow
def test_two_runs_of_it_are_compared(typed: Typed, verses: Path) -> None:
    small = "bert:hidden_size=16:objective=replaced"
    entrants = f"{small},{small}:generator_width=0.5"
    sizes = ["--steps", "2", "--batch-size", "4"]
    code, out, err = typed("compare", verses, "--arch", entrants, *sizes)
    assert code == 0, err
    assert "nats/judged token" in out


# ---- what comes after it


def weights(run: Path | str) -> dict[str, Tensor]:
    return load_file(Path(run, "last.safetensors"))


def count(tensors: dict[str, Tensor], part: str) -> int:
    return sum(t.numel() for name, t in tensors.items() if name.startswith(part))


def test_a_classifier_starts_from_the_discriminator_and_says_what_is_left_out(detector: Path, typed: Typed) -> None:
    Path("words.tsv").write_text(labelled_words(60))
    command = ["train", "words.tsv", "--init-from", detector, "--steps", "1", "--lr", "0", "--out", "run"]
    code, out, err = typed(*command)
    assert code == 0, err
    before, after = load_file(detector / "model.safetensors"), weights("run")
    body = {name: t for name, t in after.items() if name.startswith("body.")}
    symbol = len(before["body.embed.weight"]) - 1
    assert len(body) > 10
    assert all(
        torch.equal(before[name][:symbol] if name == "body.embed.weight" else before[name], t)
        for name, t in body.items()
    )
    said = " ".join(out.split())
    assert f"starts with the {count(after, 'body.'):,} weights of {detector}" in said
    left = f"{count(before, 'generator.'):,} of its generator and {count(before, 'head.'):,} of its head are left out"
    assert left in said
    assert f"the head of 3 classes is new, with {count(after, 'head.'):,}" in said


def test_it_goes_on_from_runs_of_both_kinds(detector: Path, masked: Path, verses: Path, typed: Typed) -> None:
    start = ["train", verses, "--steps", "1", "--lr", "0", "--init-from"]
    code, out, _ = typed(*start, detector, "--out", "more")
    assert code == 0
    assert "left out" not in out
    assert charlm.load("more").objective == charlm.load(detector).objective
    before, after = load_file(detector / "model.safetensors"), weights("more")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    code, out, _ = typed(*start, masked, "--objective", "replaced", "--out", "other")
    assert code == 0
    before, after = load_file(masked / "model.safetensors"), weights("other")
    said = " ".join(out.split())
    assert f"{count(before, 'head.'):,} of its head are left out" in said
    new = f"{count(after, 'generator.'):,} of its generator and {count(after, 'head.'):,} of its head are new"
    assert new in said
    assert all(
        torch.equal(before[name.removeprefix("body.")], t)
        for name, t in after.items()
        if ".blocks" in name and name.startswith("body.")
    )
    code, _, err = typed(*start, detector, "--objective", "masked", "--out", "third")
    assert code == 2
    assert "with another --objective its weights do not fit" in err


def test_a_share_is_of_the_width_and_must_be_one(typed: Typed, verses: Path) -> None:
    code, _, err = typed("train", verses, "--arch", "bert", "--objective", "replaced", "--generator-width", "1.5")
    assert code == 2
    assert "--generator-width must be at most 1" in err
    with pytest.raises(SettingsError, match="--objective replaced is not for lstm"):
        Plan.of({"arch": "lstm", "objective": "replaced"})
