"""Folders of Hugging Face's library: the same numbers and the same text on both sides."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from texts import VERSES

import charlm
from charlm.errors import SettingsError
from charlm.pretrained.families import load, names
from charlm.pretrained.families._base import Family, Match
from charlm.pretrained.read import import_model
from charlm.progress import result
from charlm.sampling.settings import Request

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

Typed = Callable[..., tuple[int, str, str]]
PROMPT = "PEG. I can't"
SIZES = {"n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None, "eos_token_id": None}


@torch.no_grad()
def saved(folder: Path, model: str, config: str, **how: Any) -> Path:
    """A folder with a model of random weights, and a tokenizer that was trained on the verses."""
    folder.mkdir()
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([VERSES], vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer.save_model(str(folder))
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(vocab_size=tokenizer.get_vocab_size(), **SIZES))
    for p in made.parameters():
        p.add_(0.1 * torch.randn_like(p))  # fresh biases are zero, which would hide a missing one
    made.save_pretrained(folder, **how)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("theirs") / "gpt2", "GPT2LMHeadModel", "GPT2Config")


@pytest.fixture
def theirs(original: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "gpt2"))


def opened(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def same_greedy_text(run: Path, folder: Path, prompt: str, length: int = 12) -> None:
    writer, (model, tokenizer) = charlm.load(run), opened(folder)
    given = tokenizer(prompt, return_tensors="pt")
    written = model.generate(**given, max_new_tokens=length, do_sample=False, pad_token_id=0)
    theirs = written[0, given["input_ids"].size(1) :].tolist()
    request = Request.of(prompt=prompt, length=length, temperature=0.0, seed=0)
    assert [int(piece.ids) for piece in writer.pieces(request)] == theirs
    assert writer.tokenizer.decode(theirs) == tokenizer.decode(theirs)


@torch.no_grad()
def same_logits(run: Path, folder: Path) -> None:
    ours, (model, _) = charlm.load(run).model, opened(folder)
    ids = torch.randint(ours.spec.vocab_size, (2, 32), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(ids).logits, model(ids).logits, atol=1e-4, rtol=0)


def test_there_and_back_again(theirs: Path, typed: Typed) -> None:
    """Imported, trained on, exported and opened by transformers: the same logits and the same greedy text."""
    code, out, _ = typed("import", theirs, "--out", "run")
    assert code == 0
    assert "charlm train FILE --init-from run" in out
    same_logits(Path("run"), theirs)
    same_greedy_text(Path("run"), theirs, PROMPT)
    Path("verses.txt").write_text(VERSES)
    assert typed("train", "verses.txt", "--init-from", "run", "--steps", "3", "--lr", "1e-3", "--out", "mine")[0] == 0
    code, out, _ = typed("export", "mine", "back", "--format", "huggingface")
    assert code == 0
    exec(out.partition("\n\n")[2], lines := {})
    assert type(lines["model"]).__name__ == "GPT2LMHeadModel"
    same_logits(Path("mine"), Path("back"))
    same_greedy_text(Path("mine"), Path("back"), PROMPT)
    changed, before = (load_file(folder / "model.safetensors") for folder in (Path("back"), theirs))
    assert changed.keys() == before.keys()
    assert all(not torch.equal(changed[name], before[name]) for name in before)
    assert sorted(p.name for p in Path().iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("settings", "family"),
    [
        (["--preset", "gpt2-tiny", "--tokenizer", "bytebpe", "--vocab-size", "300"], "GPT2LMHeadModel"),
        (["--preset", "gpt1-tiny", "--tokenizer", "byte"], "OpenAIGPTLMHeadModel"),
        (["--preset", "gpt2-tiny", "--tokenizer", "char", "--min-count", "9"], "GPT2LMHeadModel"),
        (["--preset", "gpt2-tiny", "--tokenizer", "char"], "GPT2LMHeadModel"),
    ],
)
def test_a_run_of_ours_is_opened_by_transformers(settings: list[str], family: str, typed: Typed) -> None:
    Path("verses.txt").write_text(VERSES)
    sizes = ["--layers", "1", "--hidden-size", "16", "--heads", "2", "--steps", "4", "--seq-len", "32", "--lr", "1e-2"]
    assert typed("train", "verses.txt", *settings, *sizes, "--out", "run", "--quiet")[0] == 0
    assert typed("export", "run", "out")[0] == 0
    same_logits(Path("run"), Path("out"))
    model, tokenizer = opened(Path("out"))
    writer = charlm.load("run")
    assert type(model).__name__ == family
    assert len(tokenizer) == writer.tokenizer.vocab_size
    assert tokenizer(VERSES[:300])["input_ids"] == writer.tokenizer.encode(VERSES[:300]).tolist()
    assert tokenizer.decode(tokenizer(VERSES[:300])["input_ids"]) == VERSES[:300]
    same_greedy_text(Path("run"), Path("out"), VERSES[:9])


def test_gpt_gives_the_logits_of_transformers_both_ways(tmp_path: Path, typed: Typed) -> None:
    theirs = saved(tmp_path / "gpt", "OpenAIGPTLMHeadModel", "OpenAIGPTConfig")
    assert typed("import", theirs)[0] == 0
    same_logits(Path("runs/gpt"), theirs)
    assert typed("export", "runs/gpt", "back")[0] == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (theirs, Path("back")))
    assert {name: t for name, t in before.items() if name != "lm_head.weight"}.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in after)


def test_files_of_every_age_give_one_run(original: Path, tmp_path: Path) -> None:
    """Shards, names without their prefix, masks among the weights, a copy of the tied weights, another precision."""
    expected = load_file(result(import_model(original, Path("run"))) / "model.safetensors")
    shards = saved(tmp_path / "shards", "GPT2LMHeadModel", "GPT2Config", max_shard_size="20KB")
    assert len(list(shards.glob("*.safetensors"))) > 2
    events = list(import_model(shards, Path("of-shards")))
    assert len(events) > len(expected)
    old = Path(shutil.copytree(original, tmp_path / "old"))
    tensors = load_file(old / "model.safetensors")
    bare = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 32, 32).tril() for i in range(2)}
    masks |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    copy = {"lm_head.weight": bare["wte.weight"].clone()}
    save_file({**bare, **masks, **copy}, old / "model.safetensors")
    result(import_model(old, Path("of-old")))
    half = Path(shutil.copytree(original, tmp_path / "half"))
    save_file({name: t.bfloat16() for name, t in tensors.items()}, half / "model.safetensors")
    result(import_model(half, Path("of-half")))
    for name, t in expected.items():
        for run in ("of-shards", "of-old"):
            assert torch.equal(load_file(Path(run, "model.safetensors"))[name], t), (run, name)
        assert torch.equal(load_file("of-half/model.safetensors")[name], t.bfloat16().float())


def test_a_tokenizer_json_says_the_same_as_two_files(original: Path, theirs: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(original)
    (theirs / "vocab.json").unlink()
    (theirs / "merges.txt").unlink()
    tokenizer.save_pretrained(theirs)
    (theirs / "vocab.json").unlink(missing_ok=True)
    both = {"files": original, "json": theirs}
    a, b = (charlm.load(result(import_model(folder, Path("runs", name)))) for name, folder in both.items())
    assert a.tokenizer.sha256 == b.tokenizer.sha256
    assert a.tokenizer.encode(PROMPT).tolist() == tokenizer(PROMPT)["input_ids"]


def test_ids_without_a_token_are_kept_so_that_the_numbers_stay_the_same(theirs: Path) -> None:
    config = json.loads((theirs / "config.json").read_text())
    tensors = load_file(theirs / "model.safetensors")
    size = config["vocab_size"] + 7
    tensors["transformer.wte.weight"] = torch.cat([tensors["transformer.wte.weight"], torch.ones(7, 32)])
    save_file(tensors, theirs / "model.safetensors", {"format": "pt"})
    (theirs / "config.json").write_text(json.dumps(config | {"vocab_size": size}))
    result(import_model(theirs, Path("run")))
    same_logits(Path("run"), theirs)
    assert charlm.load("run").tokenizer.vocab_size == size


def test_what_an_imported_run_can_do_it_does_and_what_needs_its_text_says_so(original: Path, typed: Typed) -> None:
    Path("text.txt").write_text(VERSES[:400])
    assert typed("import", original, "--out", "runs/g")[0] == 0
    given = ["--text", "text.txt"]
    for words in (
        ["eval", "g", *given],
        ["score", "g", "text.txt"],
        ["attend", "g", "--text", "To be"],
        ["explain", "g", "--prompt", "To be"],
        ["sample", "g", "--length", "5", "--weights", "last"],
        ["info", "g"],
        ["runs"],
        ["watch", "g"],
    ):
        code, _, err = typed(*words)
        assert (code, err) == (0, ""), words
    for words in (["eval", "g"], ["train", "--resume", "g"], ["novelty", "g"], ["context", "g"]):
        code, _, err = typed(*words)
        assert code == 2
        assert "imported without the text that it was trained on; name one with --text FILE" in err


def test_a_folder_of_theirs_is_no_run_and_the_error_says_what_makes_it_one(original: Path, typed: Typed) -> None:
    code, _, err = typed("sample", original)
    assert code == 2
    assert f"is no run but a model of Hugging Face's library: charlm import {original}" in err


def change(folder: Path, file: str, **values: Any) -> None:
    value = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(value | values))


def change_tensor(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(name, None)
    save_file(tensors | ({} if tensor is None else {name: tensor}), folder / "model.safetensors")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lacks_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def of_another_kind(folder: Path) -> None:
    model = {"type": "WordPiece", "vocab": {}}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "normalizer": None}))


def as_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def names_a_shard_in_red(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": "\x1b[31mred.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


C_ATTN = "transformer.h.1.attn.c_attn.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "gpt2 is no folder"),
        (lambda f: (f / "config.json").unlink(), "gpt2 has no config.json"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json holds no JSON object"),
        (
            lambda f: change(f, "config.json", model_type="t5"),
            "unknown model_type 't5'; choose from bert, gpt2, openai-gpt",
        ),
        (lambda f: change(f, "config.json", activation_function="relu"), "its activation_function is 'relu'; charlm"),
        (
            lambda f: change(f, "config.json", scale_attn_by_inverse_layer_idx=True),
            "its scale_attn_by_inverse_layer_idx is True; charlm computes a GPT2LMHeadModel with False",
        ),
        (lambda f: change(f, "config.json", n_inner=100), "its n_inner is 100; .* with None or 128"),
        (lambda f: change(f, "config.json", tie_word_embeddings=False), "its tie_word_embeddings is False"),
        (lambda f: change(f, "config.json", n_head=5), "--hidden-size must be a multiple of --heads, got 32 and 5"),
        (lambda f: change(f, "config.json", n_layer="two"), "--layers must be a whole number, got 'two'"),
        (lambda f: change(f, "config.json", vocab_size=None), "its vocab_size is None"),
        (
            lambda f: change(f, "config.json", vocab_size=200),
            r"the tokenizer in .*gpt2 has \d+ tokens and the model 200: they are not of one model",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "gpt2 has no model.safetensors"),
        (as_pickle, r"pytorch_model.bin, whose reading can run any code.*python -c .*save_pretrained"),
        (lacks_a_shard, "gpt2 lacks model-00001-of-00002.safetensors, which"),
        (cut_short, "model.safetensors is damaged or cut short"),
        (lambda f: change_tensor(f, C_ATTN, None), r"h\.1\.attn\.c_attn\.weight is missing in .*model\.safetensors"),
        (
            lambda f: change_tensor(f, C_ATTN, torch.zeros(96, 32)),
            r"h\.1\.attn\.c_attn\.weight has the shape \(96, 32\); by config\.json it would have to be \(32, 96\)",
        ),
        (
            lambda f: change_tensor(f, "score.weight", torch.zeros(2, 32)),
            "has score.weight, which a GPT2LMHeadModel has not",
        ),
        (lambda f: (f / "merges.txt").unlink(), "has no tokenizer that charlm reads"),
        (lambda f: (f / "merges.txt").write_text("a b c\n"), "merges.txt cannot be read"),
        (of_another_kind, "another kind than GPT-2's: its model type is 'WordPiece' and would have to be 'BPE'"),
        (lambda f: change(f, "vocab.json", a=1), "is none of GPT-2's kind"),
        (
            lambda f: change(f, "config.json", sinks=4),
            "it has sinks, of which charlm does not know what a GPT2LMHeadModel",
        ),
        (lambda f: change(f, "config.json", quantization_config={"bits": 4}), "it has quantization_config, of which"),
        (lambda f: change(f, "config.json", reorder_and_upcast_attn=True), "its reorder_and_upcast_attn is True"),
        (
            lambda f: change_tensor(f, "lm_head.weight", torch.ones(320, 32)),
            "its lm_head.weight differs from its wte.weight; charlm computes a GPT2LMHeadModel whose head",
        ),
        (lambda f: change_tensor(f, "lm_head.weight", torch.ones(1)), "its lm_head.weight differs from its wte.weight"),
        (lambda f: os.truncate(f / "config.json", 1 << 40), "config.json is damaged: no such file has"),
        (lambda f: os.truncate(f / "merges.txt", 1 << 40), "merges.txt is damaged: no such file has"),
        (names_a_shard_in_red, r"gpt2 lacks \\x1b\[31mred.safetensors, which"),
        pytest.param(
            as_pipe,
            "config.json is no file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes"),
        ),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line_and_leaves_nothing(
    damage: Callable[[Path], object], message: str, theirs: Path, typed: Typed
) -> None:
    damage(theirs)
    code, out, err = typed("import", theirs, "--out", "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err), err
    assert "\x1b" not in err
    assert not Path("run").exists()


@pytest.mark.parametrize("out", [[], ["--out", "new"], ["--out", "empty"]])
def test_an_import_that_cannot_be_written_leaves_what_was_there(out: list[str], original: Path, typed: Typed) -> None:
    """As on a full disk: no file may be longer than the tokenizer's."""
    resource = pytest.importorskip("resource", reason="this system has no quotas for a process")
    Path("empty").mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        code, _, err = typed("import", original, *out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    path = Path(out[-1] if out else "runs/gpt2", "model.safetensors")
    assert re.fullmatch(rf"charlm: {re.escape(str(path))} cannot be written: .*File too large.*\n", err), err
    assert {p.name for p in Path().rglob("*")} <= {"empty", "runs"}
    assert Path("empty").is_dir()
    assert typed("import", original, *out)[0] == 0


def test_an_import_takes_a_new_or_an_empty_folder_alone(original: Path, theirs: Path, typed: Typed) -> None:
    Path("filled").mkdir()
    Path("filled/letter.txt").write_text("mine")
    Path("file").touch()
    before = sorted(p.name for p in theirs.iterdir())
    for out in ("filled", "file", str(theirs)):
        code, _, err = typed("import", original, "--out", out)
        assert code == 2
        assert f"{out} exists already; give another --out, a new folder or an empty one" in " ".join(err.split())
    Path("verses.txt").write_text(VERSES)
    code, _, err = typed("train", "verses.txt", "--out", theirs)
    assert code == 2
    assert "already holds a run or another model; give another --out" in err
    assert "delete" not in err
    assert sorted(p.name for p in theirs.iterdir()) == before
    assert [p.name for p in Path("filled").iterdir()] == ["letter.txt"]


def test_a_run_is_not_imported_again(trained: Path, typed: Typed) -> None:
    code, _, err = typed("import", trained)
    assert code == 2
    assert f"{trained} is a run already; to see what it is: charlm info {trained}" in " ".join(err.split())


def test_commands_are_suggested_as_a_shell_reads_them(original: Path, typed: Typed) -> None:
    assert "charlm train FILE --init-from 'my run'" in typed("import", original, "--out", "my run")[1]
    Path("a model").mkdir()
    shutil.copy(original / "config.json", "a model")
    assert "charlm import 'a model'" in typed("sample", "a model")[2]
    Path("a model/pytorch_model.bin").touch()
    shutil.copy(original / "vocab.json", "a model")
    shutil.copy(original / "merges.txt", "a model")
    assert typed("import", "a model")[2].endswith("save_pretrained(sys.argv[1])\" 'a model'\n")


def test_an_export_is_on_the_disk_before_it_has_its_name(
    original: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("import", original, "--out", "run")
    flushed = set[int]()
    fsync = os.fsync

    def noted(file: int) -> None:
        if not Path("out").exists():
            flushed.add(os.fstat(file).st_ino)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    assert typed("export", "run", "out")[0] == 0
    assert {p.stat().st_ino for p in Path("out").iterdir()} <= flushed
    assert len(list(Path("out").iterdir())) == 6


OLDER = """{
"n_ctx": 32, "n_special": 0, "predict_special_tokens": true, "output_past": true, "pruned_heads": {}, "num_beams": 1,
"task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "torch_dtype": "float16",
"_name_or_path": "gpt2", "_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "prefix": null,
"gradient_checkpointing": false, "_attn_implementation_autoset": true, "finetuning_task": null, "use_bfloat16": false,
"return_dict_in_generate": false, "begin_suppress_tokens": null, "encoder_no_repeat_ngram_size": 0,
"cross_attention_hidden_size": null, "tie_encoder_decoder": false, "torchscript": false, "is_decoder": false
}"""  # what published models have, of versions before 5


@pytest.mark.parametrize(("name", "config"), [("gpt2", "GPT2Config"), ("openai-gpt", "OpenAIGPTConfig")])
def test_options_that_change_no_number_are_none_of_our_business(name: str, config: str) -> None:
    written = getattr(transformers, config)(**SIZES).to_dict()
    assert load(name).settings(written) == load(name).settings(written | json.loads(OLDER))
    for option, value in {"hidden_act": "silu", "auto_map": {"AutoModel": "mine.Model"}, "rope_theta": 1e4}.items():
        with pytest.raises(SettingsError, match=f"it has {option}, of which charlm does not know"):
            load(name).settings(written | {option: value})


def test_dropouts_that_are_one_in_charlm_are_noted_where_they_differ(theirs: Path, typed: Typed) -> None:
    change(theirs, "config.json", resid_pdrop=0.1, embd_pdrop=0.0, attn_pdrop=0.1)
    code, _, err = typed("import", theirs, "--out", "run")
    assert code == 0
    note = "resid_pdrop is 0.1, embd_pdrop is 0.0, attn_pdrop is 0.1; charlm has one --dropout, and takes 0.1"
    assert note in " ".join(err.split())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--preset", "gpt2-tiny", "--activation", "relu"], "GPT2LMHeadModel: --activation is relu and would have to"),
        (["--preset", "gpt2-tiny", "--no-bias"], "--bias is off and would have to be on"),
        (["--preset", "gpt2-tiny", "--init", "unigram"], "--init is unigram and would have to be published"),
        (["--preset", "gpt2-tiny", "--ngram", "2"], "--ngram is 2 and would have to be 1"),
        (["--preset", "gpt2-tiny", "--embedding-size", "8"], "--embedding-size is 8 and would have to be none"),
        (["--preset", "gpt2-tiny", "--pattern", "window"], "--pattern is window and would have to be dense"),
        (["--arch", "gru"], "--arch is gru and would have to be bert or transformer"),
        (["--preset", "gpt2-tiny", "--tokenizer", "word"], "--tokenizer word has no equal in Hugging Face's library"),
    ],
)
def test_an_option_that_gpt2_lacks_stands_in_the_way_of_an_export_by_name(
    settings: list[str], message: str, typed: Typed
) -> None:
    Path("verses.txt").write_text(VERSES)
    sizes = ["--layers", "1", "--hidden-size", "16", "--steps", "1", "--seq-len", "16"]
    sizes += ["--heads", "2"] if "--preset" in settings else []
    assert typed("train", "verses.txt", *settings, *sizes, "--out", "run", "--quiet")[0] == 0
    code, _, err = typed("export", "run", "out")
    assert code == 2
    assert message in err
    assert not Path("out").exists()


def test_a_folder_is_not_overwritten(trained: Path, typed: Typed) -> None:
    Path("out").mkdir()
    code, _, err = typed("export", trained, "out")
    assert code == 2
    assert "out exists already; move it away, or name another folder" in err


def test_a_family_may_keep_apart_what_we_keep_together() -> None:
    class Apart(load("gpt2")):  # type: ignore[misc]
        matches = (Match("blocks.*.attention.qkv", ("layer.*.q", "layer.*.k", "layer.*.v")),)

    source = Apart.source("blocks.11.attention.qkv.bias")
    assert source.names == ("layer.11.q.bias", "layer.11.k.bias", "layer.11.v.bias")
    parts = [torch.randn(4) for _ in range(3)]
    ours = source.to_ours(parts)
    assert source.shapes((12,)) == dict.fromkeys(source.names, (4,))
    assert all(torch.equal(part, t) for part, t in zip(parts, source.to_theirs(ours).values(), strict=True))


@pytest.mark.parametrize("name", names())
def test_every_tensor_of_a_family_has_one_name_on_each_side(name: str) -> None:
    family: type[Family] = load(name)
    ours, theirs = [m.ours for m in family.matches], [t for m in family.matches for t in m.theirs]
    assert len({*ours}) == len(ours)
    assert len({*theirs}) == len(theirs)
