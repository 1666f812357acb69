"""What a training will need, before it is begun."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from charlm import archs, presets
from charlm.config import DataSpec
from charlm.errors import SettingsError
from charlm.forecast import speed
from charlm.forecast.forecast import Forecast, forecast
from charlm.forecast.size import Size, parts
from charlm.model import parameter_count
from charlm.plan import Plan
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.text.windows import Windows
from charlm.training.loop import Trainer

Typed = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {"hidden_size": 32, "seq_len": 16, "batch_size": 4, "steps": 50}
TYPED = ["--hidden-size", "32", "--seq-len", "16", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps as are wanted, however quick they are."""
    monkeypatch.setattr(speed, "LEAST_SECONDS", 0.0)


def windows(plan: Plan, vocabulary: int) -> Windows:
    train = plan.train
    ids = torch.randint(vocabulary, (train.batch_size * train.seq_len + 1,)).numpy().astype("uint16")
    return Windows(ids, batch_size=train.batch_size, seq_len=train.seq_len, order=train.order, seed=0)


def size(settings: dict[str, Any]) -> Size:
    plan = Plan.of(settings)
    vocabulary = plan.data.vocab_size
    return Size.of(plan, windows(plan, vocabulary), DataSpec(vocabulary, plan.lengths))


def planned(text: Path, *, probe: bool = False, devices: int = 1, **settings: Any) -> Forecast:
    plan = Plan.of({"arch": "rnn", **SMALL, **settings})
    return result(forecast(plan, Corpus.open([text]), probe=probe, devices=devices, price=2.0))


@pytest.mark.parametrize("settings", [{"arch": name} for name in archs.names()] + [{"preset": "albert-tiny"}], ids=str)
def test_the_parts_of_a_network_are_all_of_its_parameters(settings: dict[str, Any]) -> None:
    plan = Plan.of(presets.read(settings["preset"]) if "preset" in settings else settings)
    outline = plan.outline(DataSpec(65, plan.lengths))
    assert sum(parts(outline).values()) == parameter_count(outline)
    assert {"embed", "head"} <= parts(outline).keys()


def test_what_is_shared_counts_once() -> None:
    gpt2 = size(presets.read("gpt2"))
    assert gpt2.parts == {"embed": 50257 * 768, "positions": 1024 * 768, "blocks": 85_054_464, "norm": 1536, "head": 0}
    assert gpt2.parameters == 124_439_808
    assert gpt2.memory[:4] == (4 * 124_439_808, 4 * 124_439_808, 8 * 124_439_808, 0)


@pytest.mark.parametrize(("arch", "optimizer"), [("transformer", "adamw"), *((name, "muon") for name in archs.names())])
def test_an_optimizer_takes_as_much_as_was_planned(arch: str, optimizer: str) -> None:
    plan = Plan.of({"arch": arch, "optimizer": optimizer, **SMALL, "ema": 0.9, "device": "cpu"})
    batches, spec = windows(plan, 40), DataSpec(40, plan.lengths)
    trainer = Trainer.from_plan(plan, batches, spec)
    next(iter(trainer))
    memory = Size.of(plan, batches, spec).memory
    states = [state for optimizer in trainer.optimizers for state in optimizer.state.values()]
    kept = [t for state in states for t in state.values() if t.dim()]
    assert trainer.average is not None
    assert memory.optimizer == sum(map(bytes_of, kept))
    weights = [*trainer.model.parameters(), *trainer.model.buffers()]
    assert memory.weights == memory.average == sum(map(bytes_of, weights))


def bytes_of(t: torch.Tensor) -> int:
    return t.numel() * t.element_size()


def test_activations_are_those_of_the_literature() -> None:
    """Korthikanti et al. 2022, arXiv:2205.05198, section 4.1, in four bytes for two, but masks."""
    b, s, h, a, layers, v = 8, 1024, 768, 12, 12, 50257
    sublayers = 2 * 32 * s * b * h + 2 * 1 * s * b * h
    attention = 2 * 4 * a * s * s * b + 4 * a * s * s * b  # softmax, dropout and, without a fused kernel, its mask
    published = layers * (sublayers + attention) + 4 * s * b * v
    assert size(presets.read("gpt2")).memory.activations == pytest.approx(published, rel=0.15)


@pytest.mark.parametrize("name", ["gpt2", "gpt3-small"])
def test_work_is_that_of_the_literature(name: str) -> None:
    """6 N + 12 L H Q T: Chowdhery et al. 2022, arXiv:2204.02311, appendix B."""
    plan, counted = Plan.of(presets.read(name)), size(presets.read(name))
    layers, width = plan.model.layers, plan.model.hidden_size  # type: ignore[attr-defined]
    attention = 12 * layers * width * plan.train.seq_len
    half = attention / 2 if name.startswith("gpt3") else 0  # every second layer looks at a window
    assert counted.flops_per_token == pytest.approx(6 * counted.parameters + attention - half, rel=0.03)


def test_gpt3_takes_what_was_published_and_nothing_is_allocated_for_it(typed: Typed) -> None:
    """Brown et al. 2020, arXiv:2005.14165, table D.1: 3.14e23 FLOP for 300 billion tokens."""
    began = time.process_time()
    code, out, error = typed("plan", "--preset", "gpt3-175b", "--devices", "1000", "--price", "2.5", "--json")
    assert (code, error) == (0, "")
    said = json.loads(out)
    assert said["parameters"]["total"] == pytest.approx(175e9, rel=0.01)
    assert said["work"]["flops"] == pytest.approx(3.14e23, rel=0.05)
    assert said["budget"]["tokens"] == pytest.approx(300e9, rel=0.01)
    memory, needed = said["memory"], said["devices"]["needed"]
    assert memory["weights"] + memory["gradients"] + memory["optimizer"] == pytest.approx(16 * 175e9, rel=0.01)
    assert (needed - 1) * memory["available"] < 16 * said["parameters"]["total"] <= needed * memory["available"]
    assert said["speed"]["share"] == pytest.approx(speed.ASSUMED_SHARE)
    assert said["speed"]["assumed_because"].startswith("not tried, as it would not fit")
    assert said["budget"]["hours"] * 1000 == pytest.approx(said["budget"]["device_hours"])
    assert time.process_time() - began < 60


def test_a_plan_adds_up(verses: Path, typed: Typed) -> None:
    words = ["--arch", "rnn", *TYPED, "--epochs", "3", "--devices", "2", "--price", "2.5", "--watts", "100"]
    code, out, error = typed("plan", verses, *words, "--json")
    assert (code, error) == (0, "")
    said = json.loads(out)
    budget, rate = said["budget"], said["speed"]["tokens_per_second"]
    assert said["speed"]["steps_timed"] >= 20
    assert budget["epochs"] == pytest.approx(3)
    assert budget["tokens"] == pytest.approx(3600 * budget["device_hours"] * rate)
    assert budget["steps"] == pytest.approx(budget["tokens"] / (4 * 16), rel=0.05)
    assert budget["hours"] == pytest.approx(budget["device_hours"] / 2)
    assert said["work"]["flops"] == pytest.approx(budget["tokens"] * said["work"]["flops_per_token"])
    assert said["work"]["flops_per_token"] == pytest.approx(6 * said["work"]["multiply_adds"], rel=0.05)
    assert said["speed"]["share"] * said["speed"]["limit"] == pytest.approx(rate * said["work"]["flops_per_token"])
    assert said["energy"] == {"watts": 100.0, "source": "as given", "kwh": pytest.approx(0.1 * budget["device_hours"])}
    assert said["cost"] == {"per_device_hour": 2.5, "total": pytest.approx(2.5 * budget["device_hours"])}
    assert sum(said["parameters"]["parts"].values()) == said["parameters"]["total"]
    assert not Path("runs").exists(), "it trains nothing"


def test_whatever_the_budget_is_given_in_the_others_follow(verses: Path) -> None:
    whole = planned(verses, epochs=4000.0, steps=None)
    assert whole.steps
    same = planned(verses, steps=whole.steps)
    assert same.epochs == pytest.approx(4000, rel=0.01)
    assert whole.hours
    assert whole.cost == pytest.approx(2 * whole.hours)
    assert planned(verses, minutes=60.0, steps=None, devices=3).device_hours == pytest.approx(3)
    timed = planned(verses, minutes=60 * whole.hours, steps=None)
    assert timed.tokens == pytest.approx(whole.tokens)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_some_steps_are_as_fast_as_a_training(verses: Path, accumulate: int) -> None:
    settings: dict[str, Any] = {"hidden_size": 128, "accumulate": accumulate, "device": "cpu", "precision": "fp32"}
    measured = planned(verses, probe=True, **settings)
    plan = Plan.of({"arch": "rnn", **SMALL, **settings, "steps": 60})
    trainer = Trainer.from_plan(plan, windows(plan, 40), DataSpec(40, plan.lengths))
    steps: Iterator[Any] = iter(trainer)
    for _ in range(10):
        next(steps)
    trainer.pause()
    tokens, seconds = trainer.position.tokens, trainer.position.clock.seconds
    for _ in steps:
        pass
    trainer.pause()
    real = (trainer.position.tokens - tokens) / (trainer.position.clock.seconds - seconds)
    assert 0.4 < measured.speed.tokens_per_second / real < 2.5
    assert measured.size.tokens_per_step == pytest.approx(4 * 16 * accumulate, rel=0.05)


def test_pairs_are_planned_too_with_their_sources_and_their_padding(typed: Typed, tmp_path: Path) -> None:
    lines = tmp_path / "pairs.tsv"
    lines.write_text("".join(f"{'abcde' * (n % 7 + 1)}\t{n}\n" for n in range(300)))
    words = ["--arch", "encdec", "--hidden-size", "32", "--batch-tokens", "256", "--tokenizer", "char"]
    code, out, _ = typed("plan", lines, *words, "--epochs", "2", "--json")
    assert code == 0
    said = json.loads(out)["work"]
    assert said["flops_per_token"] > 4 * 6 * said["multiply_adds"], "a target is short, and its source long"


def test_a_run_to_start_from_has_its_vocabulary_and_its_network(typed: Typed, trained: Path, verses: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    verses.write_text(verses.read_text()[:2000])
    code, out, _ = typed("plan", verses, "--init-from", trained, "--no-probe", "--json")
    assert code == 0
    assert json.loads(out)["parameters"]["total"] == config["params"]


def test_without_a_text_epochs_are_no_time(typed: Typed) -> None:
    code, out, _ = typed("plan", "--preset", "gpt1")
    assert code == 0
    assert "100 epochs" in out
    assert "energy" not in out


def test_a_table_is_for_people_and_its_progress_is_no_part_of_it(typed: Typed, verses: Path) -> None:
    code, out, error = typed("plan", verses, "--arch", "transformer", *TYPED, "--heads", "2", "--price", "2")
    assert (code, error) == (0, "")
    rows = [line.split()[0] for line in out.strip().split("\n")]
    for row in (
        "parameters",
        "blocks",
        "memory",
        "optimizer",
        "activations",
        "work",
        "tokens",
        "time",
        "energy",
        "cost",
    ):
        assert row in rows
    assert "5 min 00 s" in out
    assert "% of a matrix product's " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what text? Its characters are the vocabulary: charlm plan FILE; without one"),
        (["gone.txt"], "there is no file gone.txt"),
        (["short.txt"], "it needs 3 or more to learn"),
        (["--preset", "gpt3"], "no preset 'gpt3'; choose from gpt3-13b, gpt3-175b, gpt3-2.7b"),
        (["V", "--preset", "huge"], "no preset 'huge'; choose from"),
        (["V", "--layers", "0"], "--layers must be at least 1, got 0"),
        (["V", "--hedas", "2"], "--hedas is no setting of charlm train"),
        (["V", "--device", "cuda"], "--device cuda is not available here"),
        (["V", "--devices", "0"], "--devices must be at least 1, got 0"),
        (["V", "--price", "dear"], "--price must be a number, got 'dear'"),
        (
            ["V", "--arch", "transformer", "--hidden-size", "32768", "--layers", "4"],
            "or fewer --layers; --no-probe plans it all the same",
        ),
        (["V", "--config", "odd.toml"], "odd.toml: devices is no setting of a file; give it as --devices"),
    ],
)
def test_an_error_is_one_line(typed: Typed, verses: Path, words: list[str], message: str) -> None:
    Path("short.txt").write_text("a")
    Path("odd.toml").write_text("devices = 3\n")
    code, out, error = typed("plan", *[str(verses) if word == "V" else word for word in words])
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.gpu
def test_a_plan_on_a_gpu(verses: Path) -> None:
    """In a process of its own, for which it is not hidden."""
    command = [sys.executable, "-m", "charlm", "plan", str(verses), "--arch", "transformer", *TYPED, "--json"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert "CUDA graph" in said["speed"]["where"]
    assert 0 < said["speed"]["share"] < 1
    assert said["memory"]["measured"] > said["memory"]["weights"] + said["memory"]["optimizer"]
    try:
        import pynvml  # noqa: F401
    except ImportError:
        assert said["energy"]["source"] == "estimated"
    else:
        assert said["energy"]["source"] == "measured by the GPU"
        assert 20 < said["energy"]["watts"] < 1500


HOARDER = '''"""An architecture that wants more memory than there is."""
import torch
from charlm.archs.rnn import RNN


class Hoarder(RNN):
    def features(self, tokens, state):
        if tokens.device.type != "meta":
            torch.empty(2**50)
        return super().features(tokens, state)
'''


def test_what_runs_out_of_memory_when_it_is_tried_says_what_to_lower(
    typed: Typed, verses: Path, beside: Callable[[ModuleType, str, str], None]
) -> None:
    beside(archs, "hoarder", HOARDER)
    code, _, error = typed("plan", verses, "--arch", "hoarder", *TYPED)
    assert code == 2
    assert "give a smaller --batch-size" in error
    assert error.count("\n") == 1


def test_a_batch_that_is_too_large_is_not_tried() -> None:
    large = result(forecast(Plan.of(presets.read("gpt2") | {"batch_size": 1024}), None))
    assert large.speed.steps == 0
    assert "of a batch it may: give a smaller --batch-size" in large.why


def test_a_vocabulary_must_be_known() -> None:
    with pytest.raises(SettingsError, match="what text"):
        result(forecast(Plan.of({"arch": "lstm"}), None))
    assert result(forecast(Plan.of({"arch": "lstm", "tokenizer": "byte"}), None, probe=False)).size.vocabulary == 256
