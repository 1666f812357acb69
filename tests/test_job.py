"""The whole job: what it keeps, what it says, and that a resumed run is the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from charlm import events, job
from charlm.compare.measure import measured
from charlm.errors import RunError, SettingsError
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.text.corpus import Corpus
from charlm.training.loop import Position, Step, Trainer

SMALL = {"arch": "lstm", "hidden_size": 16, "seq_len": 16, "batch_size": 4, "dropout": 0.1}


def train(text: Path, out: str, stop_after: int | None = None, **settings: object) -> Iterator[events.Event]:
    return job.train(Plan.of({**SMALL, **settings}), Corpus.open([text]), out=Path(out), stop_after=stop_after)


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


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word", "bpe", "unigram"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
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
    wishes = events.Wishes()
    for event in job.train(Plan.of({**SMALL, "steps": 6}), Corpus.open([verses]), out=Path("r"), wishes=wishes):
        if isinstance(event, Step) and event.number == 2:
            wishes.save = True
        if isinstance(event, events.Note):
            assert event.text == "saved, as asked, at step 2"
            assert position("r")["step"] == 2
    assert not wishes.save


def explosive(text: Path, when: Callable[[Position], bool], **settings: object) -> Iterator[events.Event]:
    """A training in which a weight's gradient is no number whenever `when` says so, as after an overflow."""
    seen = train(text, "r", **settings)
    for event in seen:
        if isinstance(event, events.Started):
            trainer = seen.gi_frame.f_locals["job"].trainer  # type: ignore[attr-defined]
            weight = next(trainer.model.parameters())
            spoil = lambda grad, here=trainer.position: torch.full_like(grad, torch.nan) if when(here) else grad  # noqa: E731
            weight.register_hook(spoil)
        yield event


def test_a_single_explosion_is_skipped_and_said(verses: Path) -> None:
    seen = list(explosive(verses, lambda here: here.step == 7, steps=20))
    notes = [event.text for event in seen if isinstance(event, events.Note)]
    assert notes == ["the last step up to 8 changed nothing: the loss or its gradient was no finite number"]
    assert isinstance(seen[-1], events.Ended)
    assert all(p.isfinite().all() for p in load_file("r/training.safetensors").values())


def test_an_explosion_that_goes_on_leads_back_with_half_the_rate_and_then_through(verses: Path) -> None:
    """It explodes above a certain learning rate, so that two steps back are needed, and the run says so."""
    settings = {"save_every": "5", "eval_every": "1000", "schedule": "constant", "warmup": 0.0, "lr": 0.01}
    seen = list(explosive(verses, lambda here: here.step > 12 and here.lr_scale > 0.25, steps=40, **settings))
    notes = [event.text for event in seen if isinstance(event, events.Note)]
    assert [note for note in notes if note.startswith("back")] == [
        f"back to step 10, the last good checkpoint, with half the learning rate: {rate}" for rate in (0.005, 0.0025)
    ]
    rates = [event.lr for event in seen if isinstance(event, Step)]
    assert (rates[0], rates[-1]) == (0.01, 0.0025)
    assert position("r")["step"] == 40
    assert all(p.isfinite().all() for p in load_file("r/model.safetensors").values())


def test_after_three_rollbacks_it_ends_with_an_explanation_and_the_last_good_checkpoint(verses: Path) -> None:
    seen = explosive(verses, lambda here: here.step > 12, steps=1000, save_every="5", eval_every="1000")
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
    for event in train(verses, "r", steps=9, eval_every="3", save_every="100"):
        if isinstance(event, events.Validated):
            assert json.loads(Path("r/training.json").read_text())["step"] == event.step


def test_a_checkpoint_is_saved_before_every_sample(verses: Path) -> None:
    for event in train(verses, "r", minutes=0.15, eval_every="1h", save_every="1h"):
        if isinstance(event, events.Wrote):
            assert position("r")["step"] == event.step > 0


def test_with_minutes_the_budget_is_time(verses: Path) -> None:
    seen = list(train(verses, "r", minutes=0.03))
    ended = seen[-1]
    assert isinstance(ended, events.Ended)
    assert ended.seconds >= 1.8
    rates = [event.lr for event in seen if isinstance(event, Step)]
    assert rates[-1] < 0.2 * max(rates)


def test_seconds_are_those_of_the_steps_however_slow_validations_and_samples_are(
    verses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks on dawdles at everything that is no step, over a resume too; every place says the same."""
    taken: list[float] = []
    step = Trainer.step

    def timed(self: Trainer, progress: float) -> Step:
        began = time.perf_counter()
        made = step(self, progress)
        taken.append(time.perf_counter() - began)
        return made

    monkeypatch.setattr(Trainer, "step", timed)
    settings = {"steps": 12, "eval_every": "4", "save_every": "3"}
    seen = dawdling(train(verses, "r", 7, **settings)) + dawdling(job.resume(Path("r"), changes={}))
    ended, training, last = seen[-1], position("r"), json.loads(Path("r/metrics.jsonl").read_text().splitlines()[-1])
    assert isinstance(ended, events.Ended)
    assert len(taken) == 12
    assert sum(taken) <= ended.seconds < sum(taken) + 0.2
    assert training["seconds"] == last["seconds"] == pytest.approx(ended.seconds, abs=1e-3)
    assert ended.tokens_per_second == pytest.approx(training["tokens"] / ended.seconds)
    assert measured(Path("r"), 1.0).train_speed == pytest.approx(ended.tokens_per_second, rel=0.05)  # a token, a letter


def dawdling(seen: Iterator[events.Event]) -> list[events.Event]:
    return [event for event in seen if isinstance(event, Step) or not time.sleep(0.1)]  # type: ignore[func-returns-value]


@pytest.mark.parametrize("arch", ["lstm", "seq2seq"])
def test_epochs_are_passes_over_the_training_text(verses: Path, arch: str) -> None:
    """Every token counts once in each, whether it is to be guessed or, by an encoder, to be read."""
    seen = list(takewhile(lambda event: not isinstance(event, events.Ended), train(verses, "r", epochs=2.0, arch=arch)))
    started = next(event for event in seen if isinstance(event, events.Started))
    assert position("r")["tokens"] == 2 * len(started.splits["train"])


def test_samples_are_written_on_the_way(verses: Path) -> None:
    """One every now and then, and one at the end."""
    wrote = [event for event in train(verses, "r", minutes=0.2) if isinstance(event, events.Wrote)]
    assert len(wrote) >= 2
    assert wrote[-1].text in Path("r/samples.txt").read_text()
    assert Path("r/samples.txt").read_text().count("--- step") == len(wrote)
