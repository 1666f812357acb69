"""A training by several processes: the first one leads, the others follow. `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from charlm import kinds
from charlm.errors import RunError, SettingsError
from charlm.kinds._base import AnyStore
from charlm.plan import Plan
from charlm.progress import result
from charlm.runs import folder
from charlm.text.vocabulary import Vocabularies
from charlm.training import together
from charlm.training.loop import Trainer
from charlm.training.world import World


@contextmanager
def lead(
    trainer: Trainer, plan: Plan, store: AnyStore, paths: Sequence[str | Path], targets: Sequence[str | Path]
) -> Iterator[None]:
    """In the first process: let the others make the same trainer; they end when the context does.

    `paths` and `targets` are the files that the data are read from. Raises `SettingsError` if the others cannot.
    """
    world, files = trainer.world, [[str(path) for path in side] for side in (paths, targets)]
    if world.size > 1 and "-" in (*files[0], *files[1]):
        raise SettingsError("only one process can read standard input; save it to a file, which all of them can read")
    absolute = [[str(Path(path).resolve()) for path in side] for side in files]
    world.tell((plan.to_dict(), absolute, store.vocabularies.to_json(), store.corpus_sha256))
    together.share(trainer)
    try:
        yield
    finally:
        together.end(trainer)


def follow(world: World, cache_dir: Path | None = None) -> None:
    """In all other processes: take part in the training of the first one, from its beginning to its end.

    Nothing is read but the data, which must be where the first process has them. Raises `RunError` for other data.
    """
    config, (paths, targets), vocabularies, sha256 = world.tell()
    plan = Plan.from_dict(config)
    kind = kinds.load(plan.kind)
    corpus = kind.open(paths, targets, plan.data.encoding)
    store = result(kind.prepare(corpus, plan.data, cache_dir, Vocabularies.from_json(vocabularies)))
    if store.corpus_sha256 != sha256:
        raise RunError(f"{', '.join(paths)} is another text on this machine than on the first; copy it from there")
    together.follow(Trainer.from_plan(plan, store.batches(plan.train), store.spec(plan.train), world))


def begun_before(out: Path | None) -> Path | None:
    """The unfinished run, `out` or the newest one, that the same call of torchrun has begun: it starts all processes
    again if one has ended. None if there is no such run."""
    launch, again = os.environ.get("TORCHELASTIC_RUN_ID"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if launch is None or (launch == "none" and not again):  # what many calls are named
        return None
    runs = folder.list_runs()[-1:] if out is None else [folder.info(out)] if folder.is_run(out) else []
    same = [run.path for run in runs if run.config.get("launch") == launch and not run.training.get("finished")]
    return same[0] if same else None
