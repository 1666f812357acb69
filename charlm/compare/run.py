"""The comparison itself, as a generator of what happened: train what is missing, measure, make rows."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charlm import kinds
from charlm.baselines import Baselines
from charlm.compare.contest import Contest, Stores
from charlm.compare.measure import measured, opened, reader
from charlm.compare.rows import Row, examples, verdict
from charlm.compare.worker import Errand, Returned, Went, work_off
from charlm.device import choose_device
from charlm.errors import CharlmError, RunError, SettingsError
from charlm.events import Note
from charlm.kinds._base import AnyCorpus, AnyStore, Kind, Trial
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.score import BITS, Measure
from charlm.scoring import part_to_score
from charlm.training.loop import Trainer

FILE = "compare.json"


@dataclass
class Comparison:
    """Who was compared, on what, and how that went."""

    asked: dict[str, Any]
    text: dict[str, Any]  # name, and what all were scored on
    rows: list[Row]
    baselines: Baselines | None = None
    target: float | None = None
    kind: str = kinds.TEXT  # of data
    measure: Measure = BITS  # of all scores
    samples: dict[str, str] = field(default_factory=dict)  # label -> what its first run writes
    passage: str = ""  # the beginning of what they were scored on

    @property
    def scored_on(self) -> str:
        kind, text = kinds.load(self.kind), self.text
        return kind.scored.format(size=f"{text[kind.unit]:,}", bytes=f"{text['validation_bytes']:,}")

    def to_dict(self) -> dict[str, Any]:
        simple, figures = self.baselines, kinds.load(self.kind).figures
        ngram6 = simple.ngram6 if simple else None
        return {
            "asked": self.asked,
            "text": self.text,
            "target": self.target,
            "rows": [row.to_dict(self.measure, figures, self.target, ngram6) for row in self.rows],
            "baselines": simple._asdict() if simple else None,
            "verdict": verdict(self.rows),
            "samples": self.samples,
            "examples": [example._asdict() for example in examples(self.rows)],
        }


class Begun(NamedTuple):
    """What will be trained where, and what was done before."""

    path: Path
    plans: dict[Path, tuple[str, Plan]]
    done: set[Path]
    sized: bool  # hidden sizes were searched for


Event = Progress | Note | Begun | Went | Returned


def train_and_compare(
    contest: Contest,
    corpus: AnyCorpus,
    *,
    out: Path | None = None,
    cache_dir: Path | None = None,
    jobs: int = 1,
    target: float | None = None,
) -> Generator[Event, None, Comparison]:
    """Train every entrant with every seed, going on where the same comparison was interrupted, and compare.

    A training that fails becomes a row that says why. Raises `RunError` if the folder is in use or holds something
    else, `SettingsError` for entrants that do not fit together.
    """
    if strange := [str(path) for path in (*corpus.paths, *corpus.targets) if not path.is_file()]:
        raise SettingsError(f"{strange[0]} can be read only once, and each training reads it; save it to a file")
    measure = one_measure([plan.objective.measure for plan in contest.drafts])
    stores = yield from contest.stores(corpus, cache_dir)
    plans = contest.plans(stores)
    for plan, *_ in plans.values():
        refuse_what_cannot_be_computed(plan, stores[plan.data])
    store = next(iter(stores.values()))
    if not len(store.validation):
        raise SettingsError("nothing is held out to be compared on; give a larger --val-frac, or a longer text")
    yield from map(Note, dict.fromkeys(note for one in stores.values() for note in one.notes))
    asked = contest.to_dict() | {"jobs": jobs}
    path = claim(out, corpus, asked)
    with folder.locked(path):
        known: dict[str, Any] = {"asked": asked, "corpus_sha256": corpus.sha256, "speeds": {}}
        if (path / FILE).exists():
            known = folder.read_json(path / FILE)
        else:
            folder.write_json(path / FILE, known)
        runs = {path / name_of(label, plan): (label, plan) for label, some in plans.items() for plan in some}
        done = {run for run in runs if finished(run)}
        yield Begun(path, runs, done, contest.match == "params")
        files = tuple(map(str, corpus.paths)), tuple(map(str, corpus.targets))
        threads = max(1, torch.get_num_threads() // jobs)
        errands = [Errand(run, plan, *files, cache_dir, threads) for run, (_, plan) in runs.items() if run not in done]
        failures: dict[Path, str] = {}
        for event in work_off(errands, jobs):
            if isinstance(event, Returned) and event.failure:
                failures[event.path] = event.failure
            yield event
        rows = yield from tried(runs, failures, stores, known["speeds"])
        folder.write_json(path / FILE, known)
    kind = kinds.load(contest.kind)
    text = text_of(kind, corpus.name, store.validation, store.corpus_sha256)
    made = Comparison(asked, text, rows, None, target, kind.name(), measure)
    return (yield from finish(made, store))


def tried(
    runs: dict[Path, tuple[str, Plan]], failures: dict[Path, str], stores: Stores, speeds: dict[str, float | None]
) -> Generator[Progress, None, list[Row]]:
    """The rows of what was trained; `speeds` of writing that are known are not measured again, and others are added."""
    rows = {label: Row(label, [], []) for label, _ in runs.values()}
    first = next(iter(stores.values())).validation
    for run, (label, plan) in runs.items():
        kind, store = kinds.load(plan.kind), stores[plan.data]
        try:
            if run in failures:
                raise RunError(failures[run])
            if kind.figures or run.name not in speeds:
                trial = yield from kind.trial(reader(run, store), store.validation, like=first)
                speeds[run.name] = trial.speed
            else:
                trial = Trial(speeds[run.name])
            rows[label].trained.append(measured(run, trial))
        except RunError as error:
            rows[label].failures.append(str(error))
    return list(rows.values())


def refuse_what_cannot_be_computed(plan: Plan, store: AnyStore) -> None:
    """Raise `SettingsError` for a device or a precision that this machine lacks, before anything is trained."""
    if plan.train.precision == "bf16":
        Trainer.from_plan(plan, store.batches(plan.train), store.spec(plan.train))
    choose_device(plan.train.device)


def one_measure(measures: Sequence[Measure]) -> Measure:
    """The one in which all are scored. Raises `SettingsError` if they are several, which cannot be ranked together."""
    first, *others = dict.fromkeys(measures)
    if others:
        units = ", ".join(measure.unit for measure in (first, *others))
        raise SettingsError(f"scores in different measures ({units}) do not compare; compare those of one measure")
    return first


def text_of(kind: type[Kind], name: str, part: Any, sha256: str) -> dict[str, Any]:
    """What all are scored on."""
    return {"name": name, "validation_bytes": part.bytes, kind.unit: kind.size(part), "sha256": sha256}


def finish(made: Comparison, store: AnyStore) -> Generator[Progress, None, Comparison]:
    """The baselines on the same part, and a sample of each model."""
    kind = kinds.load(made.kind)
    if made.measure == BITS:
        yield Progress("seeing what simple methods reach", 0, 1)
        made.baselines = kind.baselines(store)
    made.passage = kind.passage(store)
    for row in made.rows:
        if row.trained and (sample := kind.sample(opened(row.trained[0].run))):
            made.samples[row.label] = sample
    return made


def compare_runs(
    names: Sequence[str], *, corpus: AnyCorpus | None = None, target: float | None = None
) -> Generator[Progress | Note, None, Comparison]:
    """Compare runs that exist, on the held-out part that they share, or on another `corpus` of their kind.

    Raises `RunError` if they hold out different data and no other are given, `SettingsError` for runs that do not
    compare.
    """
    infos = [folder.info(folder.find(name)) for name in names]
    kind = the_kind(infos, other=corpus is not None)
    measure = one_measure([Plan.from_dict(info.config).objective.measure for info in infos])
    same_names = len({info.path.name for info in infos}) < len(infos)
    rows, parts, stores = [], list[Any](), list[AnyStore]()
    for info in infos:
        label, writer = str(info.path) if same_names else info.path.name, opened(info.path)
        part, store = yield from part_to_score(info, writer.vocabularies, corpus=corpus)
        yield from map(Note, store.notes if corpus and not parts else ())
        parts.append(part)
        stores.append(store)
        if not kind.equal(parts):
            raise RunError(kind.unequal)
        trial = yield from kind.trial(writer, part, like=parts[0])
        score = trial.score
        if score is None and (corpus or not info.best):
            score = yield from writer.objective.score(writer.model, part)
        rows.append(Row(label, [measured(info.path, trial, score)], []))
    files = [str(path) for path in corpus.paths] if corpus else []
    asked = {"runs": [str(info.path) for info in infos], kind.option: files}
    own = infos[0].config["corpus"]
    name, sha256 = (", ".join(files), corpus.sha256) if corpus else (own["name"], own["sha256"])
    made = Comparison(asked, text_of(kind, name, parts[0], sha256), rows, None, target, kind.name(), measure)
    return made if corpus else (yield from finish(made, stores[0]))


def the_kind(infos: Sequence[RunInfo], *, other: bool) -> type[Kind]:
    """Of the data that runs were trained on. Raises as `compare_runs` for those that do not compare, unless they are
    scored on `other` data."""
    if len({info.path.resolve() for info in infos}) < len(infos):
        raise SettingsError(f"the same run twice: {', '.join(str(info.path) for info in infos)}")
    first, *others = {info.kind: kinds.load(info.kind) for info in infos}.values()
    if others:
        nouns = " and some on ".join(kind.noun for kind in (first, *others))
        raise SettingsError(f"some of these runs were trained on {nouns}; compare each kind by itself")
    shares = ("val_frac", "test_frac")
    held_out = {(info.config["corpus"]["sha256"], *(info.config["data"][name] for name in shares)) for info in infos}
    if not other and len(held_out) > 1:
        raise RunError(
            f"these runs hold out different texts to be scored on; give one for all with --{first.option} FILE"
        )
    if bare := [info.path for info in infos if not info.training]:
        raise RunError(f"{bare[0]} has no training.json, so nothing tells how it was trained; resume it once")
    return first


def claim(out: Path | None, corpus: AnyCorpus, asked: dict[str, Any]) -> Path:
    """The folder of the same comparison begun earlier, or a new one."""

    def same(path: Path) -> bool:
        try:
            begun = folder.read_json(path / FILE)
        except CharlmError:
            return False
        return bool(begun.get("asked") == asked and begun.get("corpus_sha256") == corpus.sha256)

    if out is not None:
        if os.path.lexists(out / FILE) and not same(out):
            raise RunError(f"{out} holds another comparison, or one of another text; give another --out")
        return out if same(out) else folder.claim(out, "")
    begun = [path.parent for path in sorted(folder.ROOT.glob(f"*/{FILE}")) if same(path.parent)]
    return begun[0] if begun else folder.claim(None, f"{corpus.name}-compare")


def name_of(label: str, plan: Plan) -> str:
    """A folder's name: the label in characters that every file system takes, and the seed."""
    safe = "".join(c if c.isalnum() or c in "-_.=" else "-" for c in label)
    return f"{safe}-{plan.train.seed}"


def finished(run: Path) -> bool:
    return folder.is_run(run) and bool(folder.info(run).training.get("finished"))
