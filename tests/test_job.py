"""The whole job: what it keeps, what it says, and that a resumed run is the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from charlm import events, job
from charlm.errors import RunError, SettingsError
from charlm.plan import Plan
from charlm.runs import folder
from charlm.text.corpus import Corpus
from charlm.training.loop import Step

SMALL = {"arch": "lstm", "hidden_size": 16, "seq_len": 16, "batch_size": 4, "dropout": 0.1}


def train(text: Path, out: str, stop: threading.Event | None = None, **settings: object) -> Iterator[events.Event]:
    return job.train(Plan.of({**SMALL, **settings}), Corpus.open([text]), out=Path(out), stop=stop)


def test_the_best_weights_are_kept_when_later_ones_are_worse(verses: Path) -> None:
    seen = train(verses, "r", steps=60, eval_every="10", lr=1e-2)
    scores = []
    for event in seen:
        if isinstance(event, events.Validated):
            scores.append(event.score.bits_per_byte)
            if len(scores) == 3:
                best = load_file("r/model.safetensors")
                with torch.no_grad():  # ruin it
                    for p in seen.gi_frame.f_locals["job"].trainer.model.parameters():  # type: ignore[attr-defined]
                        p.add_(torch.randn_like(p))
    assert min(scores) == scores[2] < scores[-1]
    kept = load_file("r/model.safetensors")
    assert all(torch.equal(kept[name], best[name]) for name in best)
    assert folder.info(Path("r")).bits_per_byte == scores[2]


def test_a_loss_that_is_no_number_ends_the_training_and_spares_what_was_saved(verses: Path) -> None:
    seen = train(verses, "r", steps=60, eval_every="10", save_every="5")
    next(event for event in seen if isinstance(event, events.Validated))
    names = ("r/model.safetensors", "r/training.safetensors")
    before = [load_file(name) for name in names]
    with torch.no_grad():
        seen.gi_frame.f_locals["job"].trainer.model.head.bias.fill_(float("nan"))  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=r"no number any more before step \d+; what r held before is untouched"):
        list(seen)
    for name, old in zip(names, before, strict=True):
        new = load_file(name)
        assert all(torch.equal(new[key], old[key]) for key in old)


def test_patience_ends_a_training_that_gets_no_better(verses: Path) -> None:
    seen = list(train(verses, "r", steps=1000, eval_every="5", lr=0.0, patience=3, warmup=0.0))
    steps = [event.number for event in seen if isinstance(event, Step)]
    assert max(steps) == 20  # the first validation is the best, three more are not
    assert any(isinstance(event, events.Note) and "--patience" in event.text for event in seen)


def test_learning_by_heart_is_said_in_words(tmp_path: Path) -> None:
    text = tmp_path / "noise.txt"
    generator = torch.Generator().manual_seed(0)
    text.write_text("".join(chr(97 + int(i)) for i in torch.randint(26, (1500,), generator=generator)))
    settings = {"hidden_size": 96, "val_frac": 0.4, "dropout": 0.0, "lr": 1e-2, "eval_every": "25", "weight_decay": 0.0}
    seen = train(text, "r", steps=250, **settings)
    assert any(isinstance(event, events.Note) and "learning its training text by heart" in event.text for event in seen)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "optimizer": "muon"}, {"arch": "transformer", "heads": 2}])
@pytest.mark.parametrize("at", [6, 8])
def test_a_stopped_and_resumed_run_is_the_run(verses: Path, changes: dict[str, object], at: int) -> None:
    """Also when it is stopped just where a validation is due, as after 8 steps."""
    list(train(verses, "straight", steps=12, eval_every="4", **changes))
    stop = threading.Event()
    for event in train(verses, "stopped", stop, steps=12, eval_every="4", **changes):
        if isinstance(event, Step) and event.number == at:
            stop.set()
        assert not isinstance(event, events.Ended)
    assert json.loads(Path("stopped/training.json").read_text())["step"] == at
    list(job.resume(Path("stopped"), changes={}))
    for name in ("model.safetensors", "last.safetensors"):
        a, b = load_file(f"straight/{name}"), load_file(f"stopped/{name}")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    one, other = (
        [json.loads(line) | {"seconds": 0} for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        for run in ("straight", "stopped")
    )
    assert one == other


def test_a_finished_run_goes_on_with_a_larger_budget_and_nothing_else(verses: Path) -> None:
    list(train(verses, "r", steps=5))
    list(job.resume(Path("r"), changes={"steps": 9}))
    assert json.loads(Path("r/training.json").read_text())["step"] == 9
    assert json.loads(Path("r/config.json").read_text())["train"]["steps"] == 9
    with pytest.raises(SettingsError, match="r has had its --steps 9; to go on, give more"):
        list(job.resume(Path("r"), changes={}))
    with pytest.raises(SettingsError, match="--batch-size, --lr would make r another run"):
        list(job.resume(Path("r"), changes={"lr": 1.0, "batch_size": 2}))


def test_a_text_that_changed_or_is_gone_is_noticed_at_resume(verses: Path) -> None:
    list(train(verses, "r", steps=2))
    verses.write_text(verses.read_text() + "one more line\n")
    with pytest.raises(RunError, match="changed since r was begun"):
        list(job.resume(Path("r"), changes={"steps": 3}))
    verses.unlink()
    with pytest.raises(RunError, match="the text of r is needed and cannot be read"):
        list(job.resume(Path("r"), changes={"steps": 3}))


def test_a_checkpoint_is_saved_before_every_validation(verses: Path) -> None:
    for event in train(verses, "r", steps=9, eval_every="3", save_every="100"):
        if isinstance(event, events.Validated):
            assert json.loads(Path("r/training.json").read_text())["step"] == event.step


def test_with_minutes_the_budget_is_time(verses: Path) -> None:
    seen = list(train(verses, "r", minutes=0.03))
    ended = seen[-1]
    assert isinstance(ended, events.Ended)
    assert ended.seconds >= 1.8
    rates = [event.lr for event in seen if isinstance(event, Step)]
    assert rates[-1] < 0.2 * max(rates)


def test_epochs_count_passes_over_the_training_text(verses: Path) -> None:
    seen = list(takewhile(lambda event: not isinstance(event, events.Ended), train(verses, "r", epochs=2.0)))
    tokens = sum(event.tokens for event in seen if isinstance(event, Step))
    started = next(event for event in seen if isinstance(event, events.Started))
    assert tokens == pytest.approx(2 * started.splits["train"].chars, rel=0.05)


def test_samples_are_written_on_the_way(verses: Path) -> None:
    """One every now and then, and one at the end."""
    wrote = [event for event in train(verses, "r", minutes=0.2) if isinstance(event, events.Wrote)]
    assert len(wrote) >= 2
    assert wrote[-1].text in Path("r/samples.txt").read_text()
    assert Path("r/samples.txt").read_text().count("--- step") == len(wrote)
