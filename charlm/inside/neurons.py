"""Single units of a recurrent model while it reads, and which of them follow a feature that has a name.

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
from charlm.inside import index_of
from charlm.text.characters import characters, continues
from charlm.writer import Writer

LONGEST = 10_000  # tokens that are traced at most: the values of all units at all of them are in memory at once


class Unit(NamedTuple):
    """One unit's value after each token."""

    layer: int  # from 1
    unit: int  # from 1
    correlation: float | None  # with the feature, if one was given
    values: list[float]  # (T,) from -1 to 1; of gates from 0 to 1


class Neurons(NamedTuple):
    """Units with their values over a text, those that follow the feature best, or vary most, first."""

    gate: str
    tokens: list[str]  # (T,) the text of each; empty for a token that ends within a character
    find: str | None  # name of the feature, a key of FEATURES
    feature: list[float] | None  # (T,) its values
    units: list[Unit]

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "units": [unit._asdict() for unit in self.units]}


def quote(text: str) -> list[float]:
    """1 from an opening quotation mark until before its closing one."""
    values, inside, last = [], False, ""
    for c in text:
        if c == last == "\n":  # a paragraph ends every quotation, so that a stray mark does not invert all that follows
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
    """1 just before a newline, 0 at the end of the text."""
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
    """The `top` units of a gate (default: "cell", else "hidden") that vary most over `text`, or follow a feature best.

    With `find`, a key of FEATURES, units are ranked by the absolute value of their correlation with that feature.
    `layer` and `unit` (from 1) restrict the search. Of cells the tanh is shown, which is what the output gate scales.

    Raises `SettingsError` for a model without recurrent units, a text that is empty, too long, or in which the feature
    never varies, and a layer, unit or gate that does not exist; `VocabularyError` as `encode` does.
    """
    writer.check_can_continue()
    if unit is not None and find:
        raise SettingsError("--unit names a unit and --find looks for one; give one of them", field="unit")
    ids = writer.tokenizer.encode(text)
    if not 1 <= len(ids) <= LONGEST:
        raise SettingsError(
            f"the text must have from 1 to {LONGEST:,} tokens, got {len(ids):,}; give another", field="text"
        )
    decoder = writer.tokenizer.decoder()
    tokens = [decoder.feed(id) for id in ids.tolist()]
    feature = feature_at(find, text, tokens) if find else None
    traces = writer.model.traces(torch.from_numpy(ids).to(writer.device))
    gate = gate or ("cell" if "cell" in traces else "hidden")
    if gate not in traces:
        raise SettingsError(f"--gate must be one of {', '.join(traces)} in this run, got {gate!r}", field="gate")
    values = (traces[gate].tanh() if gate == "cell" else traces[gate]).cpu().double()  # (L, T, D)
    layers, _, size = values.shape
    correlation = None if feature is None else correlations(values, torch.tensor(feature)).tolist()  # L lists of D
    deviation = values.std(1, correction=0).tolist()  # L lists of D
    ranked = [
        (i, j)
        for i in (range(layers) if layer is None else [index_of("--layer", layer, layers)])
        for j in (range(size) if unit is None else [index_of("--unit", unit, size)])
    ]
    ranked.sort(key=lambda index: -abs((correlation or deviation)[index[0]][index[1]]))
    units = [
        Unit(i + 1, j + 1, correlation[i][j] if correlation else None, values[i, :, j].tolist())
        for i, j in ranked[:top]
    ]
    return Neurons(gate, tokens, find, feature, units)


def feature_at(name: str, text: str, tokens: list[str]) -> list[float]:
    """The feature (T,) at the last character of each token. Raises `SettingsError` if it is the same at all."""
    measure, meaning = FEATURES[name]
    by_character = measure(text)
    values = [by_character[max(0, end - 1)] for end in accumulate(map(len, tokens))]
    if len(set(values)) == 1:
        raise SettingsError(
            f"--find {name} needs a text in which {meaning!r} varies; in this one it is always {values[0]:g}",
            field="find",
        )
    return values


def correlations(values: Tensor, feature: Tensor) -> Tensor:
    """Pearson's correlation of values (L, T, D) with a feature (T,) -> (L, D); 0 for units that never vary."""
    x = values - values.mean(1, keepdim=True)
    y = feature.to(values) - feature.mean()
    result: Tensor = y @ x / (x.norm(dim=1) * y.norm()).clamp(min=1e-9)
    return result


def excerpt(neurons: Neurons, size: int) -> slice:
    """The `size` tokens within which the feature changes most often; without a feature the first ones."""
    if neurons.feature is None or len(neurons.tokens) <= size:
        return slice(0, size)
    changes = [a != b for a, b in pairwise(neurons.feature)]
    counts = list(accumulate(changes, initial=0))  # of the changes up to each token
    starts = range(len(neurons.tokens) - size + 1)
    first = max(starts, key=lambda start: counts[start + size - 1] - counts[start])
    return slice(first, first + size)
