"""A training by several processes: the first one leads, the others follow. `torchrun` starts them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from charlm import kinds
from charlm.errors import CharlmError, RunError, SettingsError
from charlm.kinds._base import AnyCorpus, AnyStore
from charlm.launch import launched
from charlm.plan import Plan
from charlm.progress import result
from charlm.runs import folder
from charlm.runs.record import resolved
from charlm.runs.teacher import taught
from charlm.text.vocabulary import Vocabularies
from charlm.training import together
from charlm.training.loop import Trainer
from charlm.training.world import World


@contextmanager
def lead(
    trainer: Trainer,
    plan: Plan,
    store: AnyStore,
    paths: Sequence[str | Path],
    targets: Sequence[str | Path],
    cache_dir: Path | None,
) -> Iterator[None]:
    """In the first process: let the others make the same trainer; they end when the context does.

    `paths` and `targets` are the files that the data are read from. Raises `SettingsError` if the others cannot.
    """
    world, files = trainer.world, [[str(path) for path in side] for side in (paths, targets)]
    if world.size > 1 and "-" in (*files[0], *files[1]):
        raise SettingsError("only one process can read standard input; save it to a file, which all of them can read")
    absolute = [resolved(map(Path, side)) for side in files]
    world.broadcast_object((plan.to_dict(), absolute, cache_dir, store.vocabularies.to_json(), store.corpus_sha256))
    together.begin(trainer)
    try:
        yield
    except (CharlmError, GeneratorExit):
        together.end(trainer)
        raise
    together.end(trainer)  # not after other errors: the others may be in the midst of a step, and end with this process


def follow(world: World) -> None:
    """In all other processes: take part in the training of the first one, from its beginning to its end.

    Nothing is read but the data, which must be where the first process has them. Raises `RunError` for other data.
    """
    config, (paths, targets), cache_dir, vocabularies, sha256 = world.broadcast_object()
    plan = Plan.from_dict(config)
    kind = kinds.load(plan.kind)
    corpus = kind.open(paths, targets, plan.data.encoding)
    store = result(kind.prepare(corpus, plan.data, cache_dir, Vocabularies.from_json(vocabularies)))
    if store.corpus_sha256 != sha256:
        raise RunError(f"{', '.join(paths)} is another text on this machine than on the first; copy it from there")
    plan = taught(plan, store.vocabularies, several=True)
    together.follow(Trainer.from_plan(plan, store.batches(plan.train), store.spec(plan.train), world))


def begun_before(plan: Plan, corpus: AnyCorpus, out: Path | None) -> Path | None:
    """The unfinished run, `out` or the newest one, that the same launch has begun: torchrun starts all processes again
    if one has ended. None if there is no such run. Raises `RunError` if it has other settings or another text."""
    launch = launched()
    if launch.id is None or (launch.id == "none" and not launch.again):  # what many launches are named
        return None
    runs = folder.list_runs()[-1:] if out is None else [folder.info(out)] if folder.is_run(out) else []
    for run in runs:
        if run.config.get("launch") != launch.id or run.training.get("finished"):
            continue
        if others := sorted(differences(run.config, plan, corpus)):
            raise RunError(
                f"{run.path}, which the launch {launch.id!r} has begun, has other settings ({', '.join(others)}); "
                f"give another --rdzv-id, or go on with it: charlm train --resume {run.path}"
            )
        return run.path
    return None


def differences(config: Mapping[str, Any], plan: Plan, corpus: AnyCorpus) -> set[str]:
    """In what a run differs from a plan for a corpus: groups of settings, or the text."""

    def without_settled(values: Mapping[str, Any]) -> dict[str, Any]:
        """All but those where `auto` has become something, how processes share the work, and what is for people."""
        settled = dict.fromkeys(("device", "parallel", "precision", "compile"))
        return {**values, "recipe": None, "train": {**values["train"], **settled}}

    wanted = without_settled(json.loads(json.dumps(plan.to_dict())))
    given = without_settled(config)
    different = {name for name, value in wanted.items() if given[name] != value}
    files = {"paths": resolved(corpus.paths), "targets": resolved(corpus.targets)}
    return different | ({"text"} if any(config["corpus"][side] != paths for side, paths in files.items()) else set())
