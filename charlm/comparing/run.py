"""The comparison, as a generator of events: train what is missing, measure, make the rows of the table."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charlm import kinds
from charlm.baselines import Baselines
from charlm.comparing.contest import SIZES, Contest, Stores
from charlm.comparing.counts import caption, counts, verdicts
from charlm.comparing.entrants import Entrant
from charlm.comparing.measure import measure_run, open_for, open_run
from charlm.comparing.rows import Row, examples, verdict
from charlm.comparing.worker import Task, TrainingEnded, TrainingProgress, run_tasks
from charlm.device import choose_device
from charlm.errors import CharlmError, RunError, SettingsError
from charlm.events import Note
from charlm.kinds._base import AnyCorpus, AnyStore, Kind, Trial
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.score import BITS, Measure
from charlm.training.loop import Trainer

FILE = "compare.json"
Runs = dict[Path, tuple[Entrant, Plan]]  # by the run's folder


@dataclass
class Comparison:
    """The result: who was compared, on what, with which figures."""

    asked: dict[str, Any]  # the settings of the comparison, or the names of the runs
    text: dict[str, Any]  # name, size and hash of what all were scored on
    rows: list[Row]
    baselines: Baselines | None = None
    target: float | None = None
    kind: str = kinds.TEXT  # of data
    measure: Measure = BITS  # of all scores
    samples: dict[str, str] = field(default_factory=dict)  # label -> text by its first run
    passage: str = ""  # the beginning of the text that all were scored on

    @property
    def scored_on(self) -> str:
        """What all were scored on, in words."""
        kind, text = kinds.load(self.kind), self.text
        words = kind.scored.format(size=f"{text[kind.unit]:,}", bytes=f"{text['validation_bytes']:,}")
        return f"{words}, of the test part, by which no weights were chosen" if text.get("part") == "test" else words

    @property
    def verdict(self) -> str:
        """On the difference between the best two, of every number of labelled texts if there are several."""
        return f"{verdicts(self.rows)}\n{caption(self.rows)}" if counts(self.rows) else verdict(self.rows)

    def to_dict(self) -> dict[str, Any]:
        baselines, figures = self.baselines, kinds.load(self.kind).figures
        ngram6 = baselines.ngram6 if baselines else None
        return {
            "asked": self.asked,
            "text": self.text,
            "target": self.target,
            "rows": [row.to_dict(self.measure, figures, self.target, ngram6) for row in self.rows],
            "baselines": baselines._asdict() if baselines else None,
            "verdict": self.verdict,
            "samples": self.samples,
            "examples": [example._asdict() for example in examples(self.rows)],
        }


class Planned(NamedTuple):
    """The trainings of a comparison, before the first one starts."""

    path: Path
    plans: Runs
    done: set[Path]  # run folders that were finished by an earlier call
    sized: bool  # whether hidden sizes were chosen so that all are as large


Event = Progress | Note | Planned | TrainingProgress | TrainingEnded


def train_and_compare(
    contest: Contest,
    corpus: AnyCorpus,
    *,
    out: Path | None = None,
    cache_dir: Path | None = None,
    jobs: int = 1,
    target: float | None = None,
) -> Generator[Event, None, Comparison]:
    """Train every entrant with every seed, `jobs` at a time, and compare; an interrupted comparison is resumed.

    A training that fails becomes a row that says why. Raises `RunError` if the folder is in use or holds something
    else, `SettingsError` for entrants that do not fit together.
    """
    if pipes := [str(path) for path in (*corpus.paths, *corpus.targets) if not path.is_file()]:
        raise SettingsError(f"{pipes[0]} can be read only once, and each training reads it; save it to a file")
    measure = contest_measure(contest)
    stores, plans = yield from prepare(contest, corpus, cache_dir)
    asked = contest.to_dict() | {"jobs": jobs}
    path = claim_folder(out, corpus, asked)
    with folder.locked(path):
        state: dict[str, Any] = {"asked": asked, "corpus_sha256": corpus.sha256, "speeds": {}}
        if (path / FILE).exists():
            state = folder.read_json(path / FILE)
        else:
            folder.write_json(path / FILE, state)
        runs = {path / run_name(e.label, plan): (e, plan) for e in contest.entrants for plan in plans[e.label]}
        done = {run for run in runs if is_finished(run)}
        yield Planned(path, runs, done, contest.match in SIZES)
        waiting = {run: runs[run] for run in runs if run not in done}
        failures = yield from train_all(waiting, corpus, cache_dir, jobs)
        rows = yield from make_rows(runs, failures, stores, state["speeds"])
        folder.write_json(path / FILE, state)
    kind, store = kinds.load(contest.kind), next(iter(stores.values()))
    text = describe_text(kind, corpus.name, store, kind.measured(store))
    return (yield from add_extras(Comparison(asked, text, rows, None, target, kind.name(), measure), store))


def prepare(
    contest: Contest, corpus: AnyCorpus, cache_dir: Path | None
) -> Generator[Event, None, tuple[Stores, dict[str, list[Plan]]]]:
    """(stores, plans by label). Raises `SettingsError` for what cannot be trained or compared, before any training."""
    stores = yield from contest.stores(corpus, cache_dir)
    plans = contest.plans(stores)
    for label, (plan, *_) in plans.items():
        refuse_what_cannot_be_computed(plan, stores[label])
    if not len(kinds.load(contest.kind).measured(next(iter(stores.values())))):
        raise SettingsError("nothing is held out to be compared on; give a larger --val-frac, or a longer text")
    yield from map(Note, dict.fromkeys(note for store in stores.values() for note in store.notes))
    return stores, plans


def train_all(
    runs: Runs, corpus: AnyCorpus, cache_dir: Path | None, jobs: int
) -> Generator[Event, None, dict[Path, str]]:
    """Make every run in its folder, in processes that share the CPU threads; returns the failures by folder."""
    files = tuple(map(str, corpus.paths)), tuple(map(str, corpus.targets))
    threads = max(1, torch.get_num_threads() // jobs)
    failures: dict[Path, str] = {}
    tasks = [
        Task(run, plan, *files, cache_dir, threads, entrant.origin.path if entrant.origin else None)
        for run, (entrant, plan) in runs.items()
    ]
    for event in run_tasks(tasks, jobs):
        if isinstance(event, TrainingEnded) and event.failure:
            failures[event.path] = event.failure
        yield event
    return failures


def make_rows(
    runs: Runs, failures: dict[Path, str], stores: Stores, speeds: dict[str, float | None]
) -> Generator[Progress, None, list[Row]]:
    """A row per entrant, with the figures of its runs. Writing speeds are taken from `speeds`, by the run's name, or
    measured and added to it."""
    rows = {entrant.label: Row(entrant.label, [], []) for entrant, _ in runs.values()}
    first = next(iter(stores.values()))
    for run, (entrant, plan) in runs.items():
        kind, store, row = kinds.load(plan.kind), stores[entrant.label], rows[entrant.label]
        part = kind.measured(store)
        if entrant.count:
            row.line, row.count = entrant.line, entrant.settings["label_count"] or kind.size(store.train)
        try:
            if run in failures:
                raise RunError(failures[run])
            if kind.figures or plan.objective.figures or run.name not in speeds:
                trial = yield from kind.trial(open_for(run, store), part, like=kind.measured(first))
                speeds[run.name] = trial.speed
            else:
                trial = Trial(speeds[run.name])
            row.trained.append(measure_run(run, trial, part=part))
        except RunError as error:
            row.failures.append(str(error))
    return list(rows.values())


def refuse_what_cannot_be_computed(plan: Plan, store: AnyStore) -> None:
    """Raise `SettingsError` for a device or a precision that this machine lacks, before anything is trained."""
    if plan.train.precision == "bf16":
        Trainer.from_plan(plan, store.batches(plan.train), store.spec(plan.train))
    choose_device(plan.train.device)


def contest_measure(contest: Contest) -> Measure:
    """The one measure of all scores. Raises as `common_measure` does."""
    own = [entrant.origin.vocabularies.sha256 if entrant.origin else "" for entrant in contest.entrants]
    vocabularies = [(plan.data, sha256) for plan, sha256 in zip(contest.drafts, own, strict=True)]
    return common_measure([plan.objective.measure for plan in contest.drafts], vocabularies)


def common_measure(measures: Sequence[Measure], vocabularies: Sequence[object]) -> Measure:
    """The one measure of all scores. Raises `SettingsError` if there are several, which cannot be ranked together, or
    several vocabularies, across which it does not compare."""
    first, *others = dict.fromkeys(measures)
    if others:
        units = ", ".join(measure.unit for measure in (first, *others))
        raise SettingsError(f"scores in different measures ({units}) do not compare; compare those of one measure")
    if not first.across and len(set(vocabularies)) > 1:
        raise SettingsError(f"{first.words} depend on what a token is; compare those of one tokenizer")
    return first


def describe_text(kind: type[Kind], name: str, store: AnyStore, part: Any) -> dict[str, Any]:
    """Name, size and hash of the part that all are scored on, and whether it is one that chose no weights."""
    about = {"name": name, "validation_bytes": part.bytes, kind.unit: kind.size(part), "sha256": store.corpus_sha256}
    return about | ({"part": "test"} if part is store.test else {})


def add_extras(comparison: Comparison, store: AnyStore) -> Generator[Progress, None, Comparison]:
    """Add the baselines and the passage of the part that was scored, and a sample of every model."""
    kind = kinds.load(comparison.kind)
    if comparison.measure == BITS:
        yield Progress("seeing what simple methods reach", 0, 1)
        comparison.baselines = kind.baselines(store)
    comparison.passage = kind.passage(store)
    for row in comparison.rows:
        if row.trained and (sample := kind.sample(open_run(row.trained[0].run))):
            comparison.samples[row.label] = sample
    return comparison


def claim_folder(out: Path | None, corpus: AnyCorpus, asked: dict[str, Any]) -> Path:
    """The folder of the same comparison, if it was begun earlier, or a new one."""

    def is_same(path: Path) -> bool:
        try:
            state = folder.read_json(path / FILE)
        except CharlmError:
            return False
        return bool(state.get("asked") == asked and state.get("corpus_sha256") == corpus.sha256)

    if out is not None:
        if os.path.lexists(out / FILE) and not is_same(out):
            raise RunError(f"{out} holds another comparison, or one of another text; give another --out")
        return out if is_same(out) else folder.claim(out, "")
    earlier = [path.parent for path in sorted(folder.ROOT.glob(f"*/{FILE}")) if is_same(path.parent)]
    return earlier[0] if earlier else folder.claim(None, f"{corpus.name}-compare")


def run_name(label: str, plan: Plan) -> str:
    """The name of a run folder: the label in characters that every file system allows, and the seed."""
    safe = "".join(c if c.isalnum() or c in "-_.=" else "-" for c in label)
    return f"{safe}-{plan.train.seed}"


def is_finished(run: Path) -> bool:
    return folder.is_run(run) and bool(folder.info(run).training.get("finished"))
