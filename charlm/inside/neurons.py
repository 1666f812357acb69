"""What single units of a recurrent model do while it reads, and which of them follow something that we can name.

Karpathy, Johnson & Fei-Fei 2015, arXiv:1506.02078, section 4.2: cells that know whether the text is inside quotation
marks, or how long the line has become.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from charlm.errors import SettingsError
from charlm.inside import numbered
from charlm.text.characters import characters, continues
from charlm.writer import Writer

LONGEST = 10_000  # tokens that are traced at most: every unit's value at each of them is held at once


class Unit(NamedTuple):
    """One unit's value after each token."""

    layer: int  # from 1
    unit: int  # from 1
    correlation: float | None  # with the feature that was looked for
    values: list[float]  # (T,) from -1 to 1; of gates from 0 to 1


class Neurons(NamedTuple):
    """The units that were asked for or found, the most telling first."""

    gate: str
    tokens: list[str]  # (T,) empty where a character's bytes are not all there yet
    find: str | None  # what was looked for, a name in FEATURES
    feature: list[float] | None  # (T,) its values
    units: list[Unit]

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "units": [unit._asdict() for unit in self.units]}


def quote(text: str) -> list[float]:
    """1 from an opening quotation mark until before its closing one."""
    values, inside, last = [], False, ""
    for c in text:
        if c == last == "\n":  # a paragraph ends every quotation, so that one stray mark does not invert all the rest
            inside = False
        inside = {'"': not inside, "“": True, "”": False}.get(c, inside)
        values.append(float(inside))
        last = c
    return values


def bracket(text: str) -> list[float]:
    """1 from an opening bracket until before the closing one of the outermost pair."""
    depths = accumulate(text, lambda depth, c: max(0, depth + (c in "([{") - (c in ")]}")), initial=0)
    return [float(depth > 0) for depth in depths][1:]


def newline(text: str) -> list[float]:
    """1 just before a newline. Nobody knows what follows the end of the text; it counts as none."""
    return [float(c == "\n") for c in text[1:] + " "]


def capital(text: str) -> list[float]:
    """1 at capital letters and their marks."""
    return [float(c[0].isupper()) for c in characters(text) for _ in c]


def linelength(text: str) -> list[float]:
    """Characters since the line began."""
    return list(accumulate(text, lambda n, c: 0.0 if c == "\n" else n + (not continues(c)), initial=0.0))[1:]


FEATURES: dict[str, tuple[Callable[[str], list[float]], str]] = {
    "quote": (quote, "inside quotation marks"),
    "bracket": (bracket, "inside brackets"),
    "newline": (newline, "a newline follows"),
    "capital": (capital, "a capital letter"),
    "linelength": (linelength, "characters since the line began"),
}


@torch.inference_mode()
def neurons(
    writer: Writer,
    text: str,
    *,
    layer: int | None = None,
    unit: int | None = None,
    gate: str | None = None,
    find: str | None = None,
    top: int = 5,
) -> Neurons:
    """The `top` units of a gate (default: cells, else hidden) that vary most over `text`, or follow a feature best.

    `find` names a feature: units are ranked by the size of their correlation with it. `layer` and `unit` say where to
    look. Cells are shown as their tanh, which is what the output gate lets through.

    Raises `SettingsError` for a model without units that remember, a text that is empty, too long, or in which the
    feature never varies, and a layer, unit or gate that is not there; `VocabularyError` as `encode` does.
    """
    writer.must_go_on()
    if unit is not None and find:
        raise SettingsError("--unit names a unit and --find looks for one; give one of them", field="unit")
    ids = writer.tokenizer.encode(text)
    if not 1 <= len(ids) <= LONGEST:
        raise SettingsError(
            f"the text must have from 1 to {LONGEST:,} tokens, got {len(ids):,}; give another", field="text"
        )
    decoder = writer.tokenizer.decoder()
    tokens = [decoder.feed(id) for id in ids.tolist()]
    feature = at_tokens(find, text, tokens) if find else None
    traces = writer.model.traces(torch.from_numpy(ids).to(writer.device))
    gate = gate or ("cell" if "cell" in traces else "hidden")
    if gate not in traces:
        raise SettingsError(f"--gate must be one of {', '.join(traces)} in this run, got {gate!r}", field="gate")
    values = (traces[gate].tanh() if gate == "cell" else traces[gate]).cpu().double()  # (L, T, D)
    layers, _, size = values.shape
    follows = None if feature is None else correlations(values, torch.tensor(feature)).tolist()  # L lists of D
    varies = values.std(1, correction=0).tolist()
    here = [
        (at, number)
        for at in (range(layers) if layer is None else [numbered("--layer", layer, layers)])
        for number in (range(size) if unit is None else [numbered("--unit", unit, size)])
    ]
    here.sort(key=lambda place: -abs((follows or varies)[place[0]][place[1]]))
    units = [
        Unit(at + 1, number + 1, follows[at][number] if follows else None, values[at, :, number].tolist())
        for at, number in here[:top]
    ]
    return Neurons(gate, tokens, find, feature, units)


def at_tokens(name: str, text: str, tokens: list[str]) -> list[float]:
    """The feature at each token's last character. Raises `SettingsError` if it is the same at all of them."""
    measure, meaning = FEATURES[name]
    along = measure(text)
    values = [along[max(0, end - 1)] for end in accumulate(map(len, tokens))]
    if len(set(values)) == 1:
        raise SettingsError(
            f"--find {name} needs a text in which {meaning!r} varies; in this one it is always {values[0]:g}",
            field="find",
        )
    return values


def correlations(values: Tensor, feature: Tensor) -> Tensor:
    """Pearson's, of values (L, T, D) with a feature (T,) -> (L, D); 0 for what never varies."""
    x = values - values.mean(1, keepdim=True)
    y = feature.to(values) - feature.mean()
    found: Tensor = y @ x / (x.norm(dim=1) * y.norm()).clamp(min=1e-9)
    return found


def excerpt(neurons: Neurons, size: int) -> slice:
    """`size` tokens that show most: where the feature changes most often, else the beginning."""
    if neurons.feature is None or len(neurons.tokens) <= size:
        return slice(0, size)
    changes = [a != b for a, b in pairwise(neurons.feature)]
    seen = list(accumulate(changes, initial=0))  # before each token
    starts = range(len(neurons.tokens) - size + 1)
    first = max(starts, key=lambda start: seen[start + size - 1] - seen[start])
    return slice(first, first + size)
