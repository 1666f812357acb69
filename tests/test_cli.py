"""The command line as a person types it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from clock import Time

from charlm import __version__
from charlm.cli.signals import until_interrupted
from charlm.events import Control, Started
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.signals import Signals

Typed = Callable[..., tuple[int, str, str]]
TINY = ["--hidden-size", "16", "--seq-len", "16", "--batch-size", "4"]


def refused(outcome: tuple[int, str, str]) -> str:
    """The message of a command that ended with exit code 2, one line on standard error and nothing else."""
    code, out, err = outcome
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("charlm: ")
    return err


def test_train_then_sample_then_eval(typed: Typed, verses: Path) -> None:
    code, out, _ = typed("train", verses, "--arch", "lstm", "--steps", "20", *TINY)
    assert code == 0
    assert "next: charlm sample runs/verses-lstm" in out
    assert "best of all looks at this text; at one not looked at: charlm eval runs/verses-lstm --split test\n" in out
    for baseline in ("uniform", "unigram", "6-gram", "xz"):
        assert baseline in out
    assert {path.name for path in Path("runs/verses-lstm").iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "last.safetensors",
        "training.safetensors",
        "previous.safetensors",
        ".lock",
        "training.json",
        "metrics.jsonl",
        "samples.txt",
    }
    code, out, _ = typed("sample", "--length", "40", "--seed", "1", "--prompt", "PEG:")
    assert code == 0
    assert out.startswith("PEG:")
    assert len(out) == 4 + 40 + 1
    assert typed("sample", "runs/verses-lstm", "--length", "40", "--seed", "1", "--prompt", "PEG:")[1] == out
    code, out, _ = typed("eval", "--json")
    scored = json.loads(out)
    assert set(scored) >= {
        "bits_per_byte", "nats_per_token", "nats_per_char", "tokens", "chars", "bytes", "context", "params", "arch",
    }  # fmt: skip
    assert scored["arch"] == "lstm"
    assert scored["chars"] == scored["bytes"] == round(0.05 * len(verses.read_text()))
    metrics = [json.loads(line) for line in Path("runs/verses-lstm/metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["bits_per_byte"] == pytest.approx(scored["bits_per_byte"], rel=1e-6)


def test_demo_trains_on_the_play_and_writes(typed: Typed, clock: Time) -> None:
    clock.look = 5.0
    code, out, _ = typed("demo", "--minutes", "1")
    assert code == 0
    assert "and this is what it writes" in out
    assert Path("runs/saltmere-lstm/model.safetensors").exists()


def test_a_training_without_a_budget_begins_with_five_minutes(typed: Typed, verses: Path) -> None:
    code, out, _ = typed("train", verses, "--stop-after", "1", *TINY)
    assert code == 0
    assert "budget: 5.0 minutes" in out.splitlines()[1]


def test_a_second_run_takes_another_name_and_runs_lists_both(typed: Typed, verses: Path) -> None:
    for _ in range(2):
        assert typed("train", verses, "--steps", "2", *TINY, "--quiet") == (0, "", "")
    code, out, _ = typed("runs")
    assert code == 0
    assert "verses-lstm " in out
    assert "verses-lstm-2" in out
    assert json.loads(typed("info", "last", "--json")[1])["run"] == "runs/verses-lstm-2"
    assert "arch" in typed("info", "verses-lstm")[1]


def test_a_run_is_found_by_path_by_name_as_last_and_as_best(typed: Typed, verses: Path) -> None:
    typed("train", verses, "--steps", "30", *TINY, "--lr", "1e-2", "--quiet")
    typed("train", verses, "--steps", "1", *TINY, "--quiet")
    for name, found in [("last", "verses-lstm-2"), ("best", "verses-lstm"), ("verses-lstm", "verses-lstm")]:
        assert json.loads(typed("info", name, "--json")[1])["run"] == f"runs/{found}"
    assert json.loads(typed("info", "runs/verses-lstm", "--json")[1])["run"] == "runs/verses-lstm"


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "--length", "5"],
        ["explain", "--prompt", "WICK"],
        ["score", "V"],
        ["neurons", "--text", "WICK"],
        ["context", "--positions", "5"],
        ["novelty"],
        ["compress", "V", "--out", "small"],
    ],
)
def test_what_goes_on_with_a_text_takes_the_last_run_that_can(
    typed: Typed, trained: Path, translator: Path, verses: Path, words: list[str]
) -> None:
    shutil.copytree(trained, "runs/verse")
    shutil.copytree(translator, "runs/back")
    os.utime("runs/back/config.json")
    words = [str(verses) if word == "V" else word for word in words]
    assert typed(*words)[0] == 0
    assert "trained on pairs" in refused(typed(words[0], "back", *words[1:]))


def test_a_run_that_was_chosen_for_a_person_is_named_when_it_fails_them(typed: Typed, trained: Path) -> None:
    shutil.copytree(trained, "runs/verse")
    for command in ("sample", "explain"):
        assert f"charlm: {Path('runs/verse')}: the vocabulary lacks '☃'" in refused(typed(command, "--prompt", "☃"))
        assert "verse" not in refused(typed(command, "verse", "--prompt", "☃"))


def test_an_existing_run_is_never_overwritten(typed: Typed, verses: Path, trained: Path) -> None:
    shutil.copytree(trained, "mine")
    before = Path("mine/model.safetensors").read_bytes()
    message = refused(typed("train", verses, "--steps", "1", *TINY, "--out", "mine", "--quiet"))
    assert "mine already holds a run" in message
    assert Path("mine/model.safetensors").read_bytes() == before


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_json_events_are_one_object_per_line(quiet: list[str], typed: Typed, verses: Path) -> None:
    code, out, _ = typed("train", verses, "--steps", "4", "--eval-every", "2", *TINY, "--json", *quiet)
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "ended"
    assert [event["step"] for event in events if event["event"] == "validated"] == [2, 4]
    assert events[-1]["baselines"]["ngram6"] > 0


def test_standard_input_is_a_text_and_a_prompt(typed: Typed, verses: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(given: bytes, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        return typed(*words)

    assert piped(verses.read_bytes(), "train", "-", "--steps", "3", *TINY, "--quiet") == (0, "", "")
    assert Path("runs/stdin-lstm").is_dir()
    code, out, _ = piped(b"WICK", "sample", "--prompt", "-", "--length", "5")
    assert (code, out[:4], len(out)) == (0, "WICK", 4 + 5 + 1)
    assert piped(b"WICK", "explain", "--prompt", "-")[1].startswith("after 'WICK'")


def test_settings_come_from_preset_then_file_then_command_line(typed: Typed, verses: Path) -> None:
    Path("mine.toml").write_text('arch = "gru"\nhidden-size = 24\nseq_len = 16\nsteps = 3\n')
    assert typed("train", verses, "--preset", "tiny", "--config", "mine.toml", "--seq-len", "8", "--quiet")[0] == 0
    made = json.loads(typed("info", "--json")[1])
    assert made["arch"] == "gru"
    assert made["model"]["hidden_size"] == 24
    assert made["train"]["seq_len"] == 8
    assert made["train"]["steps"] == 3
    assert made["train"]["minutes"] is None


def test_every_preset_names_settings_that_exist(typed: Typed) -> None:
    from charlm import presets
    from charlm.plan import Plan

    shown = typed("presets")[1]
    for name in presets.names():
        assert name in shown
        Plan.of(presets.read(name))
    for arch in ("encdec", "lstm", "lstmcell", "gru", "rnn", "seq2seq", "transformer", "transformer-xl"):
        assert arch in typed("archs")[1]
        for size in ("tiny", "small", "medium", "large"):
            Plan.of({"arch": arch}, presets.read(size))


def test_help_of_train_shows_the_chosen_architectures_own_options(typed: Typed) -> None:
    assert "--heads" in typed("train", "--arch", "transformer", "--help")[1]
    assert "--heads" not in typed("train", "--arch", "lstm", "--help")[1]
    assert "--forget-bias" in typed("train", "--help")[1]
    assert "--qk-norm" in typed("train", "--preset", "gpt2-tiny", "--help")[1]
    assert "--dropout FLOAT [0<=x<=0.95] on the output" in " ".join(typed("train", "--help")[1].split())


@pytest.mark.parametrize(
    ("words", "option", "default"),
    [
        (["train"], "--minutes", "5"),
        (["compare"], "--minutes", "2"),
        (["compare"], "--lr", "what suits each"),
        (["compare"], "--seq-len", "what suits each"),
        (["compare"], "--warmup", "0.02; 0.1 for pairs"),
        (["compare"], "--batch-size", "16"),
        (["train", "--arch", "seq2seq"], "--bidirectional", "off; on for pairs"),
        (["train", "--device", "cuda"], "--hidden-size", "1024"),
        (["train", "--device", "cuda"], "--dropout", "0.6; 0.7 if --minutes is 15 or more"),
        (["train", "--device", "cuda", "--arch", "seq2seq"], "--batch-tokens", "8192"),
        (["train", "--device", "cuda", "--preset", "char-rnn"], "--seq-len", "64"),
        (["compare", "--device", "cuda"], "--batch-size", "64"),
    ],
)
def test_help_shows_the_defaults_that_apply(typed: Typed, words: list[str], option: str, default: str) -> None:
    rows = typed(*words, "--help")[1].partition(f"│ {option} ")[2]
    shown = " ".join(rows.replace("│", " ").split())
    assert shown.partition("[default: ")[2].partition("]")[0] == default


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "what text? charlm train FILE"),
        (["train", "nothing.txt"], "nothing.txt"),
        (["train", "V", "--arch", "lstn"], "unknown architecture 'lstn' (did you mean lstm?)"),
        (["train", "V", "--arch", ""], "unknown architecture ''; choose from bert, elmo, encdec, gru, lstm"),
        (["train", "V", "--preset", ""], "no preset ''; choose from"),
        (["train", "--resume", ""], "no run ''"),
        (["compare", "V", "--arch", ""], "unknown architecture ''; choose from bert, elmo, encdec, gru, lstm"),
        (["compare", "V", "--arch", "lstm, gur"], "unknown architecture 'gur' (did you mean gru?)"),
        (["train", "V", "--heads", "2"], "transformer-xl, xlnet; lstm has --layers, --hidden-size"),
        (["train", "V", "--hedas", "2"], "--hedas is no setting of charlm train; see charlm train --arch lstm --help"),
        (
            ["train", "V", "--hiden-size", "2"],
            "--hiden-size is no setting of charlm train (did you mean --hidden-size?)",
        ),
        (["train", "V", "--learning-rate", "1"], "--learning-rate is no setting of charlm train (did you mean --lr?)"),
        (["train", "V", "--val", "0"], "(did you mean --val-frac?)"),
        (["train", "V", "--temperature", "1"], "is no setting of charlm train; it belongs to charlm sample, charlm tr"),
        (
            ["train", "V", "--tokenizer", "chra"],
            "--tokenizer must be one of char, byte, word, bpe, bytebpe, unigram, got 'chra'",
        ),
        (
            ["train", "V", "--preset", "nanogpt-char", "--arch", "lstm"],
            "preset nanogpt-char, which is for transformer: --",
        ),
        (
            ["train", "V", "--config", "slip.toml"],
            "slip.toml: --layrs is no setting of charlm train (did you mean --layers",
        ),
        (["train", "V", "--config", "big.toml"], "big.toml: --layers must be at most 64, got 65"),
        (["train", "V", "--config", "odd.toml", "--tied"], "charlm: --tied needs an --embedding-size"),
        (["train", "V", "--config", "odd.toml", "--test-frac", "0.8"], "odd.toml: --val-frac 0.8 and --test-frac 0.8"),
        (["train", "V", "--config", "pre.toml"], "pre.toml: preset is no setting of a file; give it as --preset"),
        (["compare", "V", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["compare", "V", "--seeds", "1000000000"], "--seeds must be at most 1000, got 1000000000"),
        (["compare", "V", "--seeds", "two"], "--seeds must be a whole number, got 'two'"),
        (["train", "V", "--hidden-size", "60000", "--layers", "64"], "GB to train and cpu has"),
        (["train", "V", "--layers", "0"], "--layers must be at least 1, got 0"),
        (["train", "V", "--layers", "two"], "--layers must be a whole number, got 'two'"),
        (["train", "V", "--lr", "nan"], "--lr must be a finite number, got nan"),
        (["train", "V", "--dropout", "1"], "--dropout must be at most 0.95, got 1.0"),
        (["train", "V", "--minutes", "1", "--steps", "9"], "--minutes and --steps are different budgets; give one"),
        (["train", "V", "--eval-every", "often"], "--eval-every must be a number of steps (500) or a time"),
        (["train", "V", "--save-every", "0"], "--save-every must be a number of steps (500) or a time"),
        (["train", "V", "--val-frac", "0.8", "--test-frac", "0.8"], "leave too little to train on"),
        (["train", "V", "--vocab-size", "3"], "--vocab-size must be at least 300, got 3"),
        (["train", "V", "--encoding", "utf-99"], "utf-99"),
        (["train", "V", "--device", "cuda"], "--device cuda is not available here; use auto or cpu"),
        (["train", "V", "--preset", "huge"], "no preset 'huge'; choose from"),
        (["train", "V", "--config", "gone.toml"], "gone.toml cannot be read"),
        (["train", "V", "--arch", "transformer", "--hidden-size", "30", "--heads", "4"], "multiple of --heads"),
        (["train", "--resume", "nowhere"], "no run 'nowhere'"),
        (["train", "V", "--resume", "last"], "--resume takes text and settings from the run"),
        (["sample"], "no run 'last' here, and none under runs/ yet; train one with: charlm train FILE"),
        (["sample", "--temperature", "hot"], "--temperature must be a number from 0 to 1000"),
        (["sample", "--top-p", "2"], "--top-p must be at most 1, got 2.0"),
        (["sample", "--length", "-1"], "--length must be at least 0, got -1"),
        (["sample", "--length", "0", "--samples", "2"], "--length 0 writes one text without end"),
        (["sample", "--prompt", "a", "--prompt-file", "b"], "--prompt and --prompt-file both say what to continue"),
        (["sample", "--prompt-file", "gone"], "there is no file gone"),
        (["sample", "--device", "gpu"], "--device must be one of auto, cpu, cuda, mps, got 'gpu'"),
        (["sample", "--temprature", "1"], "no option of charlm sample (did you mean --temperature?)"),
        (["sample", "--seeds", "1"], "--seeds is no option of charlm sample (did you mean --seed?)"),
        (["sample", "--match", "time"], "--match is no option of charlm sample; it belongs to charlm compare"),
        (["archs", "lstm"], "archs takes no 'lstm' there; of one: charlm train --arch lstm --help"),
        (["eval", "last", "b.txt"], "eval takes no 'b.txt' there; to score another text: --text b.txt"),
        (["train", "V", "--lr"], "--lr"),
        (
            ["eval", "--split", "val", "--text", "V"],
            "--split, --text, --pairs, --labels and --source with --target are different texts",
        ),
        (["attend", "--text", "V"], "--text takes words, and"),
        (["attend", "--text", "a", "--source", "V"], "is a file; to read it: --source - <"),
        (["neurons", "--text", "V"], "is a file; to read it: --text - <"),
        (["train", "saltmere"], "there is no file saltmere here; the one that comes with charlm is "),
        (["corpus", "fetch", "nothing"], "no text called 'nothing' to fetch; there are"),
        (["smaple"], "No such command 'smaple'. Did you mean 'sample'? There are demo, learn, train, plan"),
        (["corpus", "cut"], "No such command 'cut'. There are list, fetch, make, check; see charlm corpus --help"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(typed: Typed, verses: Path, words: list[str], message: str) -> None:
    for name, line in {
        "slip": "layrs = 2",
        "big": "layers = 65",
        "pre": 'preset = "tiny"',
        "odd": "embedding_size = 5\nval_frac = 0.8",
    }.items():
        Path(f"{name}.toml").write_text(line)
    said = refused(typed(*[verses if word == "V" else word for word in words]))
    assert message in " ".join(said.split())
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "holds no text"), ("a", "holds 1 tokens; it needs 3 or more"), ("abc", None), ("hello world " * 3, None)],
)
@pytest.mark.parametrize("arch", ["lstm", "seq2seq", "encdec", "transformer", "transformer-xl"])
def test_a_tiny_text_is_trained_on_or_refused_with_its_size(
    typed: Typed, text: str, message: str | None, arch: str
) -> None:
    Path("tiny.txt").write_text(text)
    outcome = typed("train", "tiny.txt", "--steps", "2", "--hidden-size", "8", "--arch", arch)
    if message:
        assert message in refused(outcome)
    else:
        assert outcome[0] == 0
        assert "note: the training text holds only" in outcome[1]
        assert typed("sample", "--length", "5")[0] == 0


def test_an_undecodable_text_is_refused_with_the_place_and_a_way_out(typed: Typed) -> None:
    Path("old.txt").write_bytes("première\nligne é\n".encode("latin-1") * 20)
    said = refused(typed("train", "old.txt", "--steps", "1"))
    for part in ("old.txt", "line 1", "0xe8", "--encoding"):
        assert part in said
    assert typed("train", "old.txt", "--steps", "2", *TINY, "--encoding", "latin-1", "--quiet")[0] == 0


def test_without_validation_text_the_last_weights_are_kept(typed: Typed, verses: Path) -> None:
    code, out, _ = typed("train", verses, "--steps", "3", *TINY, "--val-frac", "0", "--test-frac", "0")
    assert code == 0
    assert "no validation text" in out
    assert typed("sample", "--length", "3")[0] == 0
    assert "empty: its share was 0, or the text is too short; give another: --text FILE" in refused(typed("eval"))
    assert typed("eval", "--text", verses)[0] == 0


def test_unknown_prompt_characters_are_named_skipped_or_replaced(typed: Typed, trained: Path) -> None:
    said = refused(typed("sample", trained, "--prompt", "PEG ☃"))
    assert "'☃' (U+2603)" in said
    assert "--unknown skip" in said
    for unknown in ("skip", "nearest"):
        code, out, _ = typed("sample", trained, "--prompt", "PEG ☃", "--unknown", unknown, "--length", "4")
        assert code == 0
        assert len(out) == len("PEG ☃") + 4 + 1
    assert typed("sample", trained, "--prompt", "☃☃", "--unknown", "skip", "--length", "4")[0] == 0


def test_several_samples_come_from_one_batch_and_stop_strings_end_each(typed: Typed, trained: Path) -> None:
    made = ["sample", trained, "--samples", "3", "--length", "60", "--seed", "5", "--json"]
    lines = [json.loads(line) for line in typed(*made)[1].splitlines()]
    assert len({line["text"] for line in lines}) == 3
    for line in lines:
        assert line["text"] == "".join(token["text"] for token in line["tokens"])
        assert all(token["logprob"] <= 0 for token in line["tokens"])
        assert line["seed"] == 5
    cut = [json.loads(line) for line in typed(*made, "--stop", "e")[1].splitlines()]
    stopped = ["".join(token["text"] for token in line["tokens"]) for line in cut]
    assert stopped == [line["text"] for line in cut] == [line["text"].partition("e")[0] for line in lines]
    plain = typed(*made[:-1])[1]
    assert all(line["text"] in plain for line in lines)


def test_endless_text_ends_cleanly_when_the_reader_has_had_enough(trained: Path) -> None:
    words = [sys.executable, "-m", "charlm", "sample", str(trained), "--length", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert len(writer.stdout.read(200)) == 200
        writer.stdout.close()
        assert writer.wait(timeout=60) == 0
        assert writer.stderr.read() == b""


def test_an_interrupt_ends_at_once_what_has_not_started_and_lets_the_rest_be_saved() -> None:
    signals, reading = Signals(Control(), quiet=True), Progress("reading whatever", 0, 1)
    begun = Started(Path(), Plan.of({}), 1, 1, {}, 1, "")
    assert list(until_interrupted(iter([reading, begun]), signals)) == [reading, begun]
    signals.number = signal.SIGINT
    with pytest.raises(typer.Exit):
        list(until_interrupted(iter([reading, begun]), signals))
    assert list(until_interrupted(iter([begun, reading]), signals)) == [begun, reading]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupt_finishes_the_step_saves_and_says_how_to_go_on(typed: Typed, verses: Path) -> None:
    words = ["train", str(verses), "--minutes", "5", *TINY, "--out", "r"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    training = subprocess.Popen([sys.executable, "-m", "charlm", *words], text=True, **pipes)
    assert training.stdout is not None
    begun = next(line for line in iter(training.stdout.readline, "") if line.startswith("run:"))
    training.send_signal(signal.SIGINT)
    out, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert "interrupt again to end at once" in err
    assert begun == "run: r\n"
    assert "charlm train --resume r" in out
    step = json.loads(Path("r/training.json").read_text())["step"]
    assert step > 0
    said = refused(typed("train", "--resume", "r", "--lr", "1"))
    assert "--lr would make r another run; with --resume the budget may change" in said
    assert typed("train", "--resume", "r", "--steps", str(step + 3), "--quiet")[0] == 0
    assert json.loads(Path("r/training.json").read_text())["step"] == step + 3


def test_resume_goes_on_with_the_last_run_or_the_one_named(typed: Typed, verses: Path) -> None:
    typed("train", verses, "--arch", "gru", "--steps", "9", "--stop-after", "3", *TINY)
    code, out, _ = typed("train", verses, "--steps", "9", "--stop-after", "4", *TINY)
    assert code == 0
    assert "stopped after step 4, all saved; go on with: charlm train --resume runs/verses-lstm" in out
    assert typed("train", "--resume", "--stop-after", "2")[0] == 0
    assert json.loads(Path("runs/verses-lstm/training.json").read_text())["step"] == 6
    assert typed("train", "--resume", "verses-gru")[0] == 0
    assert json.loads(Path("runs/verses-gru/training.json").read_text())["finished"]
    assert typed("train", "--resume")[0] == 2  # the last one is finished now


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_sigusr1_saves_now_and_training_goes_on(verses: Path) -> None:
    command = [sys.executable, "-m", "charlm", "train", verses, "--steps", "1000000", "--save-every", "1h", *TINY]
    with subprocess.Popen([*command, "--eval-every", "1h"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        next(line for line in lines if line.startswith("run:"))
        process.send_signal(signal.SIGUSR1)
        step = int(next(line for line in lines if "saved, as asked, at step" in line).split()[-1])
        assert json.loads(Path("runs/verses-lstm/training.json").read_text())["step"] == step > 0
        process.send_signal(signal.SIGTERM)
        assert "go on with: charlm train --resume runs/verses-lstm" in process.stdout.read()
    assert process.returncode == 143


def test_the_corpus_commands_list_and_check(typed: Typed, verses: Path) -> None:
    listed = " ".join(typed("corpus", "list")[1].split())
    for name in ("saltmere.txt", "german-english.tsv", "tinyshakespeare", "text8", "enwik8", "wikitext-2", "multi30k"):
        assert name in listed
    assert "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed" in listed
    code, out, _ = typed("corpus", "check", verses)
    assert code == 0
    assert "utf-8" in out
    assert "charlm train" in out
    assert json.loads(typed("corpus", "check", verses, "--json")[1])["characters"] == len(verses.read_text())


def test_version_and_help_end_with_success(typed: Typed) -> None:
    assert typed("--version")[:2] == (0, f"charlm {__version__}\n")
    for command in ([], ["demo"], ["train"], ["sample"], ["eval"], ["runs"], ["info"], ["corpus", "make"]):
        code, out, _ = typed(*command, "--help")
        assert code == 0
        assert not re.search(r"list\[|<[a-z]", out)  # Python's names of what is to be typed
    for words, shown in (([], "Look inside"), (["help"], "Look inside"), (["help", "sample"], "--temperature")):
        code, out, err = typed(*words)
        assert (code, err) == (0, "")
        assert shown in out
