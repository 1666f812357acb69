"""The weights in a folder of Hugging Face's library, in one file or in several (shards)."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from charlm.errors import RunError
from charlm.files import in_shell
from charlm.pretrained.families._base import Family, Shape
from charlm.pretrained.foreign import read_json
from charlm.progress import Progress

WEIGHTS, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
CONVERT = (
    'python -c "import sys; from transformers import AutoModelForCausalLM as M; '
    'M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])"'
)


def files(folder: Path) -> list[Path]:
    """The files of weights in a folder. Raises `RunError` if there is none, or one is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX).get("weight_map")
        if not (isinstance(index, dict) and index and all(isinstance(name, str) for name in index.values())):
            raise RunError(f"{folder / INDEX} names no files of weights")
        shards = sorted(set(index.values()))
        for name in shards:
            if os.path.basename(name) != name or not (folder / name).is_file():
                raise RunError(f"{folder} lacks {name}, which {INDEX} names; download it again")
        return [folder / name for name in shards]
    if any(folder.glob(PICKLE + "*")):
        raise RunError(
            f"{folder} has its weights in {PICKLE}, whose reading can run any code, so charlm does not; if you trust "
            f"it, convert it once: {CONVERT} {in_shell(folder)}"
        )
    raise RunError(f"{folder} has no {WEIGHTS}, and no {INDEX}, so there are no weights to read")


class Weights:
    """Open files: where each tensor is, by its name without the family's prefix."""

    def __init__(self, family: type[Family], handles: Mapping[Path, Any]) -> None:
        self.family = family
        self.places: dict[str, tuple[Path, str]] = {}  # name -> file, and the name in that
        self.handles = handles
        for path, handle in handles.items():
            for name in handle.keys():  # noqa: SIM118  it is no dict
                bare = name.removeprefix(family.prefix)
                if not bare.endswith(family.buffers):
                    self.places[bare] = path, name

    def check(self, wanted: Mapping[str, Shape]) -> None:
        """Raise `RunError` unless there are just the `wanted` tensors, in their shapes, and copies of them."""
        model = self.family.model
        for name, shape in wanted.items():
            if name not in self.places:
                raise RunError(f"{name} is missing in {self.names}")
            path, full = self.places[name]
            given = tuple(self.handles[path].get_slice(full).get_shape())
            if given != shape:
                raise RunError(f"{path}: {full} has the shape {given}; by config.json it would have to be {shape}")
        for name in sorted(self.places.keys() - wanted.keys() - self.family.copies.keys()):
            raise RunError(f"{self.places[name][0]} has {name}, which a {model} has not")
        for copy, name in self.family.copies.items():
            if copy in self.places and not torch.equal(self.read(copy), self.read(name)):
                raise RunError(
                    f"{self.places[copy][0]}: its {copy} differs from its {name}; charlm computes a {model} whose head "
                    f"is its embedding (tie_word_embeddings)"
                )

    @property
    def names(self) -> str:
        return ", ".join(map(str, self.handles))

    def read(self, name: str) -> Tensor:
        """A tensor in single precision."""
        path, full = self.places[name]
        tensor: Tensor = self.handles[path].get_tensor(full)
        return tensor.to(torch.float32)


@contextmanager
def opened(folder: Path, family: type[Family]) -> Iterator[Weights]:
    """The weights in a folder. Raises `RunError` for what cannot be read or is cut short."""
    with ExitStack() as stack:
        handles = {}
        for path in files(folder):
            try:
                handles[path] = stack.enter_context(safe_open(path, "pt"))
            except (SafetensorError, OSError) as error:
                raise RunError(f"{path} is damaged or cut short: {error}; download it again") from None
        yield Weights(family, handles)


def convert(
    weights: Weights, family: type[Family], shapes: Mapping[str, Shape]
) -> Generator[Progress, None, dict[str, Tensor]]:
    """Our tensors, of these shapes by name. Of theirs only one is in memory at a time."""
    sources = {name: family.source(name) for name in shapes}
    wanted = {theirs: s for name, shape in shapes.items() for theirs, s in sources[name].shapes(shape).items()}
    weights.check(wanted)
    ours: dict[str, Tensor] = {}
    for number, (name, source) in enumerate(sources.items()):
        yield Progress("reading the weights", number, len(sources))
        ours[name] = source.to_ours([weights.read(theirs) for theirs in source.names]).contiguous()
    return ours
