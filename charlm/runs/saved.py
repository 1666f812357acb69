"""A run on disk, read up to its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from charlm.config import DataSpec, Lengths
from charlm.errors import RunError
from charlm.model import Network
from charlm.plan import Plan
from charlm.runs import checkpoint, folder
from charlm.text.vocabulary import Vocabularies

WEIGHTS = {"best": "model.safetensors", "last": "last.safetensors"}


class Saved(NamedTuple):
    """What a run's JSON files say, checked against each other."""

    path: Path
    plan: Plan
    vocabularies: Vocabularies
    spec: DataSpec

    @classmethod
    def open(cls, path: Path) -> Saved:
        """Raises `RunError` for a run that is not whole, or is of another charlm."""
        config = folder.info(path).config
        vocabularies = Vocabularies.from_json(folder.read_json(path / "tokenizer.json"))
        if vocabularies.sha256 != config.get("tokenizer_sha256"):
            raise RunError(f"{path / 'tokenizer.json'} is not the vocabulary that this run was trained with")
        plan = Plan.from_dict(config)
        lengths, limits = config["lengths"], plan.lengths._asdict()
        if lengths.keys() != limits.keys() or not all(
            isinstance(lengths[name], int) and 1 <= lengths[name] <= limit for name, limit in limits.items()
        ):
            raise RunError(f"{path / 'config.json'} does not describe a run: its lengths are {lengths}")
        return cls(path, plan, vocabularies, vocabularies.spec(Lengths(**lengths)))

    def tensors(self, weights: str = "best") -> tuple[checkpoint.Tensors, dict[str, Any]]:
        """(the weights by name, what the file says of them); checked before memory is allocated for a model.

        Raises `RunError` if they are missing, damaged or of another shape.
        """
        try:
            return checkpoint.read_weights(self.file(weights), self.plan.outline(self.spec))
        except RunError as error:
            other = next(name for name in WEIGHTS if name != weights)
            hint = f"; --weights {other} may be whole" if self.file(other).exists() else ""
            raise RunError(f"{error}{hint}") from None

    def network(self, weights: str = "best") -> Network:
        """The network with its weights, on the CPU. Raises as `tensors` does."""
        tensors, _ = self.tensors(weights)
        network = self.plan.build(self.spec)
        checkpoint.set_weights(network, tensors, self.file(weights))
        return network

    def file(self, weights: str) -> Path:
        return self.path / WEIGHTS[weights]
