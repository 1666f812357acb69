"""How a run has learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from charlm.comparing.axes import AXES
from charlm.runs import folder
from charlm.runs.folder import RunInfo
from charlm.runs.standing import Point
from charlm.score import Measure
from charlm.views.chart import line_chart
from charlm.views.console import table
from charlm.views.curves import curves
from charlm.views.pictures import as_fragment

HEIGHT = 12  # lines


def losses(info: RunInfo) -> dict[int, float]:
    """The training losses in a run's metrics.jsonl, in nats per token, by step; damaged lines are left out."""
    found = dict[int, float]()
    for entry, _ in folder.metrics(info.path):
        with suppress(ValueError, KeyError, TypeError):
            found[entry["step"]] = float(entry["train_nats"])
    return found


def view(info: RunInfo, points: Sequence[Point]) -> RenderableType:
    """The last validations as a table, and of more than one the curve."""
    title, rows = Text(f"{info.path}: {len(points)} validations"), validations(info, points)
    if len(points) < 2:
        return Group(title, rows)
    return Group(title, curves({info.config["arch"]: [points]}, info.measure, "time", height=HEIGHT), rows)


def html(info: RunInfo, points: Sequence[Point]) -> str:
    """The same for a notebook."""
    return chart({info.path.name: [points]}, info.measure) + as_fragment(validations(info, points))


def validations(info: RunInfo, points: Sequence[Point]) -> Table:
    rows = table("step", ">seconds", f">{info.measure.unit}")
    for point in points[-HEIGHT:]:
        rows.add_row(str(point.step), f"{point.seconds:.1f}", f"{point.value:.4f}")
    return rows


def chart(by_label: Mapping[str, Sequence[Sequence[Point]]], measure: Measure) -> str:
    """The curves as SVG."""
    lines = {
        label: [[(point.seconds, point.value) for point in points] for points in several if points]
        for label, several in by_label.items()
    }
    return line_chart(lines, AXES["seconds"], measure.words)
