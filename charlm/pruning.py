"""From a run to a smaller one: its weights pruned, the cost measured, and what retraining them needs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charlm import kinds
from charlm.errors import RunError, SettingsError
from charlm.files import free, link, new_folder
from charlm.kinds._base import AnyCorpus
from charlm.model import parameter_count
from charlm.plan import Plan
from charlm.progress import Progress
from charlm.prune import matrices, prune, pruned, zeros
from charlm.runs import checkpoint, folder
from charlm.runs.checkpoint import Tensors
from charlm.runs.origin import GENTLY, Origin
from charlm.runs.record import UNTRAINED, describe_run
from charlm.score import Score
from charlm.scoring import part_to_score
from charlm.writer import Writer


class PrunedOrigin(Origin):
    """A run to start from, with a `share` of each matrix at zero."""

    def __init__(self, run: str | Path, share: float) -> None:
        super().__init__(run)
        self.share, self.names = share, matrices(self.plan.outline(self.saved.spec)).keys()

    def tensors(self) -> tuple[Tensors, dict[str, Any]]:
        tensors, metadata = super().tensors()
        return {name: pruned(t, self.share) if name in self.names else t for name, t in tensors.items()}, metadata

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"pruned": self.share}

    def retraining(self, minutes: float) -> tuple[Plan, AnyCorpus]:
        """(plan, corpus) of a training on the run's own data in which zeros stay zero."""
        plan, text = self.plan, folder.info(self.path).config["corpus"]
        budget: dict[str, Any] = {"minutes": minutes, "steps": None, "epochs": None}
        place: dict[str, Any] = {"device": "auto", "precision": "auto", "compile": "auto", "parallel": "ddp"}
        train = replace(plan.train, **budget, **place, lr=plan.train.lr * GENTLY, keep_zeros=True)
        corpus = kinds.load(plan.kind).open(text["paths"], text["targets"], plan.data.encoding)
        return replace(plan, train=train), corpus


@dataclass(frozen=True)
class Pruning:
    """A run's network after it was pruned, and what that cost on the validation part."""

    origin: PrunedOrigin
    writer: Writer
    before: Score
    after: Score

    @property
    def parameters(self) -> int:
        return parameter_count(self.writer.model)

    @property
    def nonzero(self) -> int:
        return self.parameters - zeros(self.writer.model)

    def write(self, path: Path) -> None:
        """Make a run of it in the free folder `path`, without a training. Raises `RunError` if it cannot be written."""
        origin, model, config = self.origin, self.writer.model, folder.info(self.origin.path).config
        known: Any = {"rows": config["rows"], "work": config["multiply_adds"], "corpus": config["corpus"]}
        said = describe_run(origin.plan, model, origin.vocabularies, **known, origin=origin.to_json())
        with new_folder(path) as beside:
            folder.write_json(beside / "tokenizer.json", origin.vocabularies.to_json())
            metadata = {"step": 0, "score": self.after.to_json()}
            checkpoint.save_weights(beside / "model.safetensors", model, metadata)
            link(beside / "model.safetensors", beside / "last.safetensors")
            folder.write_json(beside / "training.json", UNTRAINED | {"best": self.after.to_json()})
            folder.write_json(beside / "config.json", said)


def pruning(run: str | Path, share: float, out: Path) -> Generator[Progress, None, Pruning]:
    """Prune a run's best weights, and score them before and after; `out`, where the new run is to be, must be free.

    Raises `RunError` if it is not, or if the run's data are gone, `SettingsError` for a share that prunes nothing or
    everything.
    """
    if not 0 < share < 1:
        raise SettingsError(f"--share must be above 0 and below 1, such as 0.5, got {share:g}", field="share")
    if not free(out):
        raise RunError(f"{out} exists already; give another --out, a new folder or an empty one")
    origin = PrunedOrigin(run, share)
    writer = Writer.load(origin.path)
    part, _ = yield from part_to_score(folder.info(origin.path), writer.vocabularies)
    before = yield from writer.objective.score(writer.model, part)
    prune(writer.model, share)
    after = yield from writer.objective.score(writer.model, part)
    return Pruning(origin, writer, before, after)
