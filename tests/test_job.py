"""The whole job: what it keeps, what it says, and that a resumed run is the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from clock import Time
from safetensors.torch import load_file
from torch import Tensor

from charlm import archs, events, job
from charlm.comparing.measure import measure_run
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import Trial
from charlm.model import Features, LanguageModel, State
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.text.corpus import Corpus
from charlm.training.loop import Step

SMALL = {"arch": "lstm", "hidden_size": 16, "seq_len": 16, "batch_size": 4, "dropout": 0.1}


Train = Callable[..., Iterator[events.Event]]


def train(text: Path, out: Path | str, stop_after: int | None = None, **settings: object) -> Iterator[events.Event]:
    return job.train(Plan.of({**SMALL, **settings}), Corpus.open([text]), out=Path(out), stop_after=stop_after)


class Overfitted(NamedTuple):
    run: Path
    seen: list[events.Event]
    best: dict[str, Tensor]  # the weights that were there when the best validation was told


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory: pytest.TempPathFactory) -> Overfitted:
    """A training on noise, which can only be learnt by heart."""
    place = tmp_path_factory.mktemp("noise")
    noise = torch.randint(26, (1500,), generator=torch.Generator().manual_seed(0))
    (place / "noise.txt").write_text("".join(chr(97 + int(i)) for i in noise))
    settings = {"hidden_size": 96, "val_frac": 0.4, "dropout": 0.0, "lr": 1e-2, "eval_every": "25", "weight_decay": 0.0}
    plan, seen, best = Plan.of({**SMALL, **settings, "steps": 250}), [], {}
    for event in job.train(plan, Corpus.open([place / "noise.txt"]), out=place / "run", cache_dir=place / "cache"):
        seen.append(event)
        if isinstance(event, events.Validated) and event.best:
            best = load_file(place / "run" / "model.safetensors")
    return Overfitted(place / "run", seen, best)


def test_the_best_weights_are_kept_when_later_ones_are_worse(overfitted: Overfitted) -> None:
    scores = [event.score.bits_per_byte for event in overfitted.seen if isinstance(event, events.Validated)]
    assert min(scores) < scores[-1]
    assert folder.info(overfitted.run).best.value == min(scores)
    kept, last = (load_file(overfitted.run / f"{name}.safetensors") for name in ("model", "last"))
    assert kept.keys() == overfitted.best.keys() == last.keys()
    assert all(torch.equal(kept[name], weights) for name, weights in overfitted.best.items())
    assert not any(torch.equal(kept[name], weights) for name, weights in last.items())


def test_learning_by_heart_is_said_in_words(overfitted: Overfitted) -> None:
    notes = [event.text for event in overfitted.seen if isinstance(event, events.Note)]
    assert any("learning its training text by heart" in note for note in notes)


def test_patience_ends_a_training_that_gets_no_better(verses: Path) -> None:
    seen = list(train(verses, "r", steps=1000, eval_every="5", lr=0.0, patience=3, warmup=0.0))
    steps = [event.number for event in seen if isinstance(event, Step)]
    assert max(steps) == 20  # the first validation is the best, three more are not
    assert any(isinstance(event, events.Note) and "--patience" in event.text for event in seen)


def test_patience_ends_a_run_that_was_killed_in_its_last_validation_too(verses: Path) -> None:
    settings = {"steps": 1000, "eval_every": "5", "lr": 0.0, "patience": 3, "warmup": 0.0}
    seen = train(verses, "r", **settings)
    for event in seen:
        if isinstance(event, Step) and event.number == 20:
            break
    next(event for event in seen if isinstance(event, Progress))  # the validation has begun
    seen.close()  # type: ignore[attr-defined]
    steps = [event for event in job.resume(Path("r"), changes={}) if isinstance(event, Step)]
    assert steps == []
    assert folder.info(Path("r")).training["finished"]


@pytest.mark.parametrize(
    ("at", "changes"),
    [(6, {}), (8, {}), (8, {"ema": 0.9, "optimizer": "muon"}), (8, {"arch": "transformer", "heads": 2})],
)
def test_a_stopped_and_resumed_run_is_the_run(verses: Path, at: int, changes: dict[str, object]) -> None:
    """Also when it is stopped just where a validation is due, as after 8 steps."""
    list(train(verses, "straight", steps=12, eval_every="4", **changes))
    assert not any(
        isinstance(e, events.Ended) for e in train(verses, "stopped", at, steps=12, eval_every="4", **changes)
    )
    assert json.loads(Path("stopped/training.json").read_text())["step"] == at
    list(job.resume(Path("stopped"), changes={}))
    same_weights("straight", "stopped")
    one, other = (
        [json.loads(line) | {"seconds": 0} for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        for run in ("straight", "stopped")
    )
    assert one == other


@pytest.mark.parametrize(
    ("tokenizer", "optimizer"),
    [(name, "adamw") for name in ("char", "word", "bytebpe", "unigram")] + [("byte", "muon"), ("bpe", "muon")],
)
def test_every_tokenizer_and_optimizer_resumes_exactly(verses: Path, tokenizer: str, optimizer: str) -> None:
    """Across the border of an epoch, with batches accumulated, and through every folder in between."""
    settings = {"tokenizer": tokenizer, "vocab_size": 320, "optimizer": optimizer, "accumulate": 2, "epochs": 1.2}
    list(train(verses, "straight", **settings))
    list(train(verses, "stopped", 5, **settings))
    list(job.resume(Path("stopped"), changes={}))
    assert position("straight")["step"] > 10
    same_weights("straight", "stopped")


def test_from_the_checkpoint_before_the_last_a_run_comes_to_the_same_end(verses: Path) -> None:
    settings = {"steps": 12, "save_every": "3", "eval_every": "6", "patience": 2}
    list(train(verses, "straight", **settings))
    list(train(verses, "r", 8, **settings))
    with open("r/training.safetensors", "r+b") as file:
        file.seek(-20, 2)
        file.write(b"\xff")
    with pytest.raises(
        RunError, match=r"its checksum is not .*; the checkpoint before it, of step 6, is whole: add --pre"
    ):
        list(job.resume(Path("r"), changes={}))
    list(job.resume(Path("r"), previous=True, changes={}))
    same_weights("straight", "r")
    last = Path("r/training.safetensors").read_bytes()
    Path("r/previous.safetensors").write_bytes(b"damaged too")
    with pytest.raises(RunError, match=r"previous\.safetensors is damaged"):
        list(job.resume(Path("r"), previous=True, changes={"steps": 20}))
    assert Path("r/training.safetensors").read_bytes() == last


def test_two_trainings_are_kept_out_of_one_run_and_a_dead_one_keeps_nobody_out(verses: Path) -> None:
    first = train(verses, "r", steps=3)
    next(event for event in first if isinstance(event, Step))
    with pytest.raises(RunError, match="r is being trained by another process"):
        list(job.resume(Path("r"), changes={}))
    first.close()  # type: ignore[attr-defined]
    Path("r/.lock").touch()
    Path("r/.last.safetensors.99.tmp").write_bytes(b"half")  # left by a process that was killed
    list(job.resume(Path("r"), changes={}))
    assert not list(Path("r").glob("*.tmp"))
    assert not list(Path("r").glob(".*.tmp"))


def test_a_wish_to_save_is_granted_after_the_step(verses: Path) -> None:
    control, said = events.Control(), []
    for event in job.train(Plan.of({**SMALL, "steps": 6}), Corpus.open([verses]), out=Path("r"), control=control):
        if isinstance(event, Step) and event.number == 2:
            control.save = True
        if isinstance(event, events.Note):
            said.append((event.text, position("r")["step"]))
    assert said == [("saved, as asked, at step 2", 2)]
    assert not control.save


@pytest.fixture
def explosive(verses: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains a model that computes no numbers, as after an overflow, in each step that follows one `when` picks."""
    lstm, explodes = archs.load("lstm"), False
    features = lstm.features

    def overflowing(model: LanguageModel, tokens: Tensor, state: State = None) -> Features:
        made = features(model, tokens, state)
        return made._replace(hidden=made.hidden * torch.nan) if explodes and model.training else made

    def train_(when: Callable[[Step], bool], **settings: object) -> Iterator[events.Event]:
        nonlocal explodes
        for event in train(verses, "r", **settings):
            if isinstance(event, Step):
                explodes = when(event)
            elif isinstance(event, events.Note) and event.text.startswith("back to step"):
                explodes = False
            yield event

    monkeypatch.setattr(lstm, "features", overflowing)
    return train_


def test_a_single_explosion_is_skipped_and_said(explosive: Train) -> None:
    seen = list(explosive(lambda step: step.number == 7, steps=20))
    notes = [event.text for event in seen if isinstance(event, events.Note)]
    assert notes == ["the last step up to 8 changed nothing: the loss or its gradient was no finite number"]
    assert isinstance(seen[-1], events.Ended)
    assert all(p.isfinite().all() for p in load_file("r/training.safetensors").values())


def test_an_explosion_that_goes_on_leads_back_with_half_the_rate_and_then_through(explosive: Train) -> None:
    """It explodes above a certain learning rate, so that two steps back are needed, and the run says so."""
    settings = {"save_every": "5", "eval_every": "1000", "schedule": "constant", "warmup": 0.0, "lr": 0.01}
    seen = list(explosive(lambda step: step.number > 12 and step.lr > 0.0025, steps=40, **settings))
    notes = [event.text for event in seen if isinstance(event, events.Note)]
    assert [note for note in notes if note.startswith("back")] == [
        f"back to step 10, the last good checkpoint, with half the learning rate: {rate}" for rate in (0.005, 0.0025)
    ]
    rates = [event.lr for event in seen if isinstance(event, Step)]
    assert (rates[0], rates[-1]) == (0.01, 0.0025)
    assert position("r")["step"] == 40
    assert all(p.isfinite().all() for p in load_file("r/model.safetensors").values())


def test_after_three_rollbacks_it_ends_with_an_explanation_and_the_last_good_checkpoint(explosive: Train) -> None:
    seen = explosive(lambda step: step.number > 12, steps=1000, save_every="5", eval_every="1000")
    with pytest.raises(
        RunError, match=r"halved 3 times; r stands at step 10, the last good one; train anew with a lower"
    ):
        list(seen)
    assert position("r")["step"] == 10
    assert all(p.isfinite().all() for p in load_file("r/training.safetensors").values())


def position(run: str) -> dict[str, int]:
    return json.loads(Path(run, "training.json").read_text())  # type: ignore[no-any-return]


def same_weights(one: str, other: str) -> None:
    for name in ("model.safetensors", "last.safetensors"):
        a, b = load_file(f"{one}/{name}"), load_file(f"{other}/{name}")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


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
    seen = train(verses, "r", steps=9, eval_every="3", save_every="100")
    assert [(e.step, position("r")["step"]) for e in seen if isinstance(e, events.Validated)] == [
        (n, n) for n in (3, 6, 9)
    ]


def test_samples_are_written_on_the_way_each_after_a_checkpoint(verses: Path, clock: Time) -> None:
    """One every now and then, and one at the end."""
    seen = clock.passing(train(verses, "r", minutes=2.0, eval_every="1h", save_every="1h"), step=5.0)
    wrote = [(event, position("r")["step"]) for event in seen if isinstance(event, events.Wrote)]
    assert len(wrote) >= 3
    assert all(event.step == saved > 0 for event, saved in wrote)
    said = Path("r/samples.txt").read_text()
    assert said == "".join(f"--- step {event.step}\n{event.text}\n" for event, _ in wrote)


def test_with_minutes_the_budget_is_time(verses: Path, clock: Time) -> None:
    seen = list(clock.passing(train(verses, "r", minutes=0.5), step=1.0))
    rates, ended = [event.lr for event in seen if isinstance(event, Step)], seen[-1]
    assert isinstance(ended, events.Ended)
    assert ended.seconds == ended.steps == len(rates) == 30
    assert rates[-1] < 0.2 * max(rates)


def test_seconds_are_those_of_the_steps_however_slow_validations_and_samples_are(verses: Path, clock: Time) -> None:
    """Over a resume too; every place says the same."""
    settings = {"steps": 12, "eval_every": "4", "save_every": "3"}
    begun = train(verses, "r", 7, **settings)
    assert isinstance([*clock.passing(begun, step=0.5, otherwise=60.0)][-1], events.Stopped)
    seen = list(clock.passing(job.resume(Path("r"), changes={}), step=0.5, otherwise=60.0))
    ended, training, last = seen[-1], position("r"), json.loads(Path("r/metrics.jsonl").read_text().splitlines()[-1])
    assert isinstance(ended, events.Ended)
    assert ended.seconds == training["seconds"] == last["seconds"] == 6.0
    assert ended.tokens_per_second == training["tokens"] / 6.0
    assert measure_run(Path("r"), Trial()).train_speed == pytest.approx(ended.tokens_per_second)  # a token, a letter


@pytest.mark.parametrize("arch", ["lstm", "seq2seq"])
def test_epochs_are_passes_over_the_training_text(verses: Path, arch: str) -> None:
    """Every token counts once in each, whether it is to be guessed or, by an encoder, to be read."""
    seen = list(takewhile(lambda event: not isinstance(event, events.Ended), train(verses, "r", epochs=2.0, arch=arch)))
    started = next(event for event in seen if isinstance(event, events.Started))
    assert position("r")["tokens"] == 2 * len(started.splits["train"])
