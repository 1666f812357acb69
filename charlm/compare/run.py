"""The comparison itself, as a generator of what happened: train what is missing, measure, make rows."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charlm.baselines import Baselines
from charlm.compare.contest import Contest
from charlm.compare.rows import Row, Trained, curve_of, tokens_per_step, verdict
from charlm.compare.worker import Errand, Returned, Went, work_off
from charlm.errors import CharlmError, RunError, SettingsError
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.runs import folder
from charlm.sampling.settings import SampleSettings
from charlm.scoring import same_store, score_run, store_baselines
from charlm.text.corpus import Corpus
from charlm.text.store import Store, prepare
from charlm.writer import Writer

FILE = "compare.json"
WRITE_SECONDS, WARM_UP = 1.0, 20  # for which writing is timed, after so many tokens
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
        }


class Begun(NamedTuple):
    """What will be trained where, and what was done before."""

    path: Path
    plans: dict[Path, tuple[str, Plan]]
    done: set[Path]


Event = Progress | Begun | Went | Returned


def train_and_compare(
    contest: Contest,
    corpus: Corpus,
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
    if strange := [str(path) for path in corpus.paths if not path.is_file()]:
        raise SettingsError(f"{strange[0]} can be read only once, and each training reads it; save it to a file")
    plans = yield from contest.plans(corpus, cache_dir)
    stores = {}
    for plan, *_ in plans.values():
        if plan.data not in stores:
            stores[plan.data] = yield from prepare(corpus, plan.data, cache_dir)
    store = next(iter(stores.values()))
    if not len(store.validation):
        raise SettingsError("nothing is held out to be compared on; give a larger --val-frac, or a longer text")
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
        yield Begun(path, runs, done)
        texts = tuple(str(text) for text in corpus.paths)
        threads = max(1, torch.get_num_threads() // jobs)
        errands = [Errand(run, plan, texts, cache_dir, threads) for run, (_, plan) in runs.items() if run not in done]
        failures: dict[Path, str] = {}
        for event in work_off(errands, jobs):
            if isinstance(event, Returned) and event.failure:
                failures[event.path] = event.failure
            yield event
        rows = {label: Row(label, [], []) for label in plans}
        for run, (label, _) in runs.items():
            try:
                if run in failures:
                    raise RunError(failures[run])
                if run.name not in found["speeds"]:
                    yield Progress(f"writing with {run.name}", 0, 1)
                    found["speeds"][run.name] = write_speed(opened(run))
                rows[label].trained.append(measured(run, found["speeds"][run.name]))
            except RunError as error:
                rows[label].failures.append(str(error))
        folder.write_json(path / FILE, found)
    made = Comparison(asked, {}, list(rows.values()), None, target)
    return (yield from finish(made, store, corpus.name))


def finish(made: Comparison, store: Store, name: str) -> Generator[Progress, None, Comparison]:
    """The baselines on the same validation text, and a sample of each model."""
    yield Progress("seeing what simple methods reach", 0, 1)
    made.baselines = store_baselines(store)
    made.text = {"name": name, "validation_bytes": store.validation.bytes, "sha256": store.corpus_sha256}
    made.passage = store.tokenizer.decoder().feed(*store.validation.ids[:PASSAGE].tolist())
    for row in made.rows:
        if row.trained:
            made.samples[row.label] = opened(row.trained[0].run).sample(length=SAMPLE)
    return made


def opened(run: Path) -> Writer:
    """A run where it was trained, if that can be used here."""
    device = folder.info(run).config["train"]["device"]
    try:
        return Writer.load(run, device=device)
    except SettingsError:
        return Writer.load(run)


def compare_runs(
    names: Sequence[str], *, text: Sequence[str] = (), target: float | None = None
) -> Generator[Progress, None, Comparison]:
    """Compare runs that exist, on the held-out text that they share or on `text` (files).

    Raises `RunError` if they hold out different texts and no `text` is given.
    """
    infos = [folder.info(folder.find(name)) for name in names]
    if len({info.path.resolve() for info in infos}) < len(infos):
        raise SettingsError(f"the same run twice: {', '.join(names)}")
    if "-" in text:
        raise SettingsError("--text - can be read only once, and each run reads it; save it to a file")
    same_names = len({info.path.name for info in infos}) < len(infos)
    if not text:
        parts = {
            (i.config["corpus"]["sha256"], i.config["data"]["val_frac"], i.config["data"]["test_frac"]) for i in infos
        }
        if len(parts) > 1:
            raise RunError("these runs hold out different texts to be scored on; give one for all with --text FILE")
    rows = []
    for info in infos:
        if not info.training:
            raise RunError(f"{info.path} has no training.json, so nothing tells how it was trained; resume it once")
        score = None
        if text or not info.training.get("best"):
            score = yield from score_run(info.path, text=text)
        yield Progress(f"writing with {info.path.name}", 0, 1)
        row = measured(info.path, write_speed(opened(info.path)), score)
        rows.append(Row(str(info.path) if same_names else info.path.name, [row], []))
    if len({row.trained[0].bytes for row in rows}) > 1:
        raise RunError("these runs read the text in different encodings; train them with the same --encoding")
    asked = {"runs": [str(info.path) for info in infos], "text": list(text)}
    made = Comparison(
        asked, {"name": ", ".join(text), "validation_bytes": rows[0].trained[0].bytes}, rows, None, target
    )
    if text:
        return made
    return (yield from finish(made, (yield from same_store(infos[0], None)), infos[0].config["corpus"]["name"]))


def claim(out: Path | None, corpus: Corpus, asked: dict[str, Any]) -> Path:
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


def measured(run: Path, speed: float, score: dict[str, Any] | None = None) -> Trained:
    """What a run's own files say, with `score` instead of that of its own validation text where it is given."""
    info = folder.info(run)
    config, training = info.config, info.training
    score = score or training["best"]
    if score is None:
        raise RunError(f"{run} has no validation text to be compared on; train with a larger --val-frac")
    seen = training["step"] * tokens_per_step(info)
    seconds = max(training["seconds"], 1e-9)
    return Trained(
        run=run,
        seed=config["train"]["seed"],
        bits_per_byte=score["bits_per_byte"],
        nats_per_char=score["nats_per_char"],
        params=config["params"],
        context=score["context"],
        train_speed=seen / seconds * score["chars"] / score["tokens"],
        write_speed=speed,
        peak_memory=training.get("peak_memory"),
        tokens_seen=seen,
        seconds=training["seconds"],
        bytes=score["bytes"],
        curve=curve_of(info),
    )


def write_speed(writer: Writer) -> float:
    """Characters per second in one stream."""
    pieces, chars = writer.pieces("", SampleSettings(), seed=0), 0
    for _ in range(WARM_UP):
        next(pieces)
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < WRITE_SECONDS:
        chars += len(next(pieces).texts[0])
    return chars / spent
