"""The comparison itself, as a generator of what happened: train what is missing, measure, make rows."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charlm.baselines import Baselines
from charlm.compare.contest import Contest, same_pairs
from charlm.compare.measure import measured, opened, reader, translating, write_speed
from charlm.compare.rows import Row, examples, verdict
from charlm.compare.worker import Errand, Returned, Went, work_off
from charlm.device import choose_device, choose_precision
from charlm.errors import CharlmError, RunError, SettingsError
from charlm.events import Note
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.scoring import same_text, score_run, store_baselines
from charlm.text.corpus import Corpus
from charlm.text.pair_store import PairSplit, PairStore
from charlm.text.pairs import PairCorpus
from charlm.text.store import Split, Store
from charlm.translation import part_to_score

FILE = "compare.json"
SAMPLE, PASSAGE = 400, 600  # tokens that are shown: written by each model, and of the text


@dataclass
class Comparison:
    """What was found. Lower bits per byte are better."""

    asked: dict[str, Any]
    text: dict[str, Any]  # name, and what all were scored on
    rows: list[Row]
    baselines: Baselines | None
    target: float | None = None
    samples: dict[str, str] = field(default_factory=dict)  # label -> what its first run writes
    passage: str = ""  # the beginning of what they were scored on

    @property
    def pairs(self) -> bool:
        """Whether sources were read and targets written."""
        return "pairs" in self.text

    def to_dict(self) -> dict[str, Any]:
        simple = self.baselines
        return {
            "asked": self.asked,
            "text": self.text,
            "target": self.target,
            "rows": [row.to_dict(self.target, simple.ngram6 if simple else None) for row in self.rows],
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
    corpus: Corpus | PairCorpus,
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
    targets = corpus.targets if isinstance(corpus, PairCorpus) else ()
    if strange := [str(path) for path in (*corpus.paths, *targets) if not path.is_file()]:
        raise SettingsError(f"{strange[0]} can be read only once, and each training reads it; save it to a file")
    stores = yield from contest.stores(corpus, cache_dir)
    plans = contest.plans(stores)
    for plan, *_ in plans.values():
        refuse_what_cannot_be_computed(plan, stores[plan.data])
    store = next(iter(stores.values()))
    if not len(store.validation):
        raise SettingsError("nothing is held out to be compared on; give a larger --val-frac, or a longer text")
    yield from map(Note, dict.fromkeys(note for each in stores.values() for note in each.notes))
    asked = contest.to_dict() | {"jobs": jobs}
    path = claim(out, corpus, asked)
    with folder.locked(path):
        found: dict[str, Any] = {"asked": asked, "corpus_sha256": corpus.sha256, "speeds": {}}
        if (path / FILE).exists():
            found = folder.read_json(path / FILE)
        else:
            folder.write_json(path / FILE, found)
        runs = {path / name_of(label, plan): (label, plan) for label, each in plans.items() for plan in each}
        done = {run for run in runs if finished(run)}
        yield Begun(path, runs, done, contest.match == "params")
        files = tuple(map(str, corpus.paths)), tuple(map(str, targets))
        threads = max(1, torch.get_num_threads() // jobs)
        errands = [Errand(run, plan, *files, cache_dir, threads) for run, (_, plan) in runs.items() if run not in done]
        failures: dict[Path, str] = {}
        for event in work_off(errands, jobs):
            if isinstance(event, Returned) and event.failure:
                failures[event.path] = event.failure
            yield event
        rows = {label: Row(label, [], []) for label in plans}
        lengths = store.validation.source.sizes - 1 if isinstance(store, PairStore) else None
        for run, (label, plan) in runs.items():
            try:
                if run in failures:
                    raise RunError(failures[run])
                own = stores[plan.data]
                if isinstance(own, PairStore):
                    trained = yield from translating(run, reader(run, own), own.validation, lengths)
                else:
                    if run.name not in found["speeds"]:
                        yield Progress(f"writing with {run.name}", 0, 1)
                        found["speeds"][run.name] = write_speed(opened(run))
                    trained = measured(run, found["speeds"][run.name])
                rows[label].trained.append(trained)
            except RunError as error:
                rows[label].failures.append(str(error))
        folder.write_json(path / FILE, found)
    text = text_of(corpus.name, store.validation, store.corpus_sha256)
    made = Comparison(asked, text, list(rows.values()), None, target)
    return made if isinstance(store, PairStore) else (yield from finish(made, store))


def refuse_what_cannot_be_computed(plan: Plan, store: Store | PairStore) -> None:
    """Raise `SettingsError` for a device or a precision that this machine lacks, before anything is trained."""
    device = choose_device(plan.train.device)
    if plan.train.precision == "bf16":
        choose_precision("bf16", plan.build(store.spec(plan.train)).to(device))


def text_of(name: str, part: Split | PairSplit, sha256: str) -> dict[str, Any]:
    """What all are scored on."""
    pairs = {"pairs": part.count} if isinstance(part, PairSplit) else {}
    return {"name": name, "validation_bytes": part.bytes, **pairs, "sha256": sha256}


def finish(made: Comparison, store: Store) -> Generator[Progress, None, Comparison]:
    """The baselines on the same validation text, and a sample of each model."""
    yield Progress("seeing what simple methods reach", 0, 1)
    made.baselines = store_baselines(store)
    made.passage = store.tokenizer.decoder().feed(*store.validation.ids[:PASSAGE].tolist())
    for row in made.rows:
        if row.trained:
            made.samples[row.label] = opened(row.trained[0].run).sample(length=SAMPLE)
    return made


def compare_runs(
    names: Sequence[str], *, text: Corpus | None = None, pairs: PairCorpus | None = None, target: float | None = None
) -> Generator[Progress | Note, None, Comparison]:
    """Compare runs that exist, on the held-out text that they share, on another `text` or on other `pairs`.

    Raises `RunError` if they hold out different texts and no other is given, `SettingsError` for one of the wrong kind.
    """
    infos = [folder.info(folder.find(name)) for name in names]
    if len({info.path.resolve() for info in infos}) < len(infos):
        raise SettingsError(f"the same run twice: {', '.join(names)}")
    if len({info.pairs for info in infos}) > 1:
        raise SettingsError("some of these runs translate and some go on with a text; compare each kind by itself")
    other, wrong = ("--pairs", text) if infos[0].pairs else ("--text", pairs)
    if wrong:
        raise SettingsError(f"runs of this kind are scored on another text with {other} FILE")
    held_out = {
        (i.config["corpus"]["sha256"], *(i.config["data"][f"{s}_frac"] for s in ("val", "test"))) for i in infos
    }
    if not (text or pairs) and len(held_out) > 1:
        raise RunError(f"these runs hold out different texts to be scored on; give one for all with {other} FILE")
    if bare := [info.path for info in infos if not info.training]:
        raise RunError(f"{bare[0]} has no training.json, so nothing tells how it was trained; resume it once")
    same_names = len({info.path.name for info in infos}) < len(infos)
    runs = {str(info.path) if same_names else info.path.name: info for info in infos}
    if infos[0].pairs:
        return (yield from compare_translators(runs, pairs, target))
    rows = []
    for label, info in runs.items():
        score = None
        if text or not info.training.get("best"):
            score = yield from score_run(info.path, text=text)
        yield Progress(f"writing with {info.path.name}", 0, 1)
        rows.append(Row(label, [measured(info.path, write_speed(opened(info.path)), score)], []))
    if len({(row.trained[0].bytes, row.trained[0].chars) for row in rows}) > 1:
        raise RunError(
            "these runs read different texts out of the same file, so their scores do not compare; train them with the "
            "same --alphabet"
        )
    files = [str(path) for path in text.paths] if text else []
    asked = {"runs": [str(info.path) for info in infos], "text": files}
    if text:
        named = {"name": ", ".join(files), "validation_bytes": rows[0].trained[0].bytes}
        return Comparison(asked, named, rows, None, target)
    store = yield from same_text(infos[0], None)
    named = text_of(infos[0].config["corpus"]["name"], store.validation, store.corpus_sha256)
    return (yield from finish(Comparison(asked, named, rows, None, target), store))


def compare_translators(
    runs: Mapping[str, RunInfo], pairs: PairCorpus | None, target: float | None
) -> Generator[Progress | Note, None, Comparison]:
    """Compare runs that were trained on pairs, by their labels. Raises `RunError` if they cannot read the same ones."""
    parts: list[PairSplit] = []
    rows = []
    for label, info in runs.items():
        writer = opened(info.path)
        part, notes = yield from part_to_score(info, writer, pairs=pairs)
        if not parts:
            yield from map(Note, notes)
        parts.append(part)
        if not same_pairs(parts):
            raise RunError(
                f"{label} leaves out other pairs as too long than those before it; "
                "give some with --pairs FILE that are short enough for all"
            )
        trained = yield from translating(info.path, writer, part, parts[0].source.sizes - 1)
        rows.append(Row(label, [trained], []))
    first = next(iter(runs.values())).config["corpus"]
    name, sha256 = (pairs.name, pairs.sha256) if pairs else (first["name"], first["sha256"])
    asked = {
        "runs": [str(info.path) for info in runs.values()],
        "pairs": [str(p) for p in pairs.paths] if pairs else [],
    }
    return Comparison(asked, text_of(name, parts[0], sha256), rows, None, target)


def claim(out: Path | None, corpus: Corpus | PairCorpus, asked: dict[str, Any]) -> Path:
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
