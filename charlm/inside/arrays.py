"""Rows of numbers written to a file one after the other, in bounded memory: NumPy's .npy, or .safetensors.

Both begin with a header that says how many rows there are, for which room is left until that is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlm.errors import SettingsError
from charlm.files import writing

HEADER = 512  # bytes; a multiple of 64, as .npy wants it
ENDINGS = ".npy", ".safetensors"


def refuse_ending(path: Path) -> None:
    """Raise `SettingsError` for the name of a file of another kind."""
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"--out {path} names no kind of file; it may end in {' or '.join(ENDINGS)}", field="out")


class Rows:
    """Vectors (D,) or (T, D) of lines, added in order."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.width = file, 0
        self.borders = [0]  # rows up to each line, and at the end

    @property
    def shape(self) -> tuple[int, int]:
        return self.borders[-1], self.width

    def add(self, vectors: NDArray[np.float32]) -> None:
        rows = np.atleast_2d(vectors).astype("<f4")
        self.file.write(rows.tobytes())
        self.borders.append(self.borders[-1] + len(rows))
        self.width = rows.shape[1]


@contextmanager
def array_file(path: Path, about: Mapping[str, str], *, borders: bool) -> Iterator[Rows]:
    """Yields what takes the rows; at the end `path` holds them as `vectors` (N, D), 32 bits a number.

    In .safetensors, `about` is kept with them and, if `borders` are wanted, `lines` (lines + 1,): where each line's
    rows begin, and the last one's end. Raises `SettingsError` if the file cannot be written; what was at `path` stays.
    """
    with writing(path, error=SettingsError, hint="make room, or name another --out") as file:
        file.write(bytes(HEADER))
        yield (rows := Rows(file))
        if path.suffix.lower() == ".npy":
            header = npy_header(rows.shape)
        else:
            sizes: dict[str, Any] = {"vectors": ("F32", rows.shape)}
            if borders:
                file.write(np.array(rows.borders, "<i4").tobytes())
                sizes["lines"] = ("I32", (len(rows.borders),))
            header = safetensors_header(sizes, about)
        file.seek(0)
        file.write(header)


def npy_header(shape: tuple[int, int]) -> bytes:
    """Version 1.0 of the format, as numpy.lib.format describes it."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + f"{text:<{HEADER - 11}}\n".encode()


def safetensors_header(sizes: Mapping[str, tuple[str, tuple[int, ...]]], about: Mapping[str, str]) -> bytes:
    """Of tensors of 4 bytes a number, one after the other: their types and shapes by name."""
    said: dict[str, Any] = {"__metadata__": dict(about)}
    end = 0
    for name, (dtype, shape) in sizes.items():
        begin, end = end, end + 4 * int(np.prod(shape))
        said[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return (HEADER - 8).to_bytes(8, "little") + f"{json.dumps(said):<{HEADER - 8}}".encode()
