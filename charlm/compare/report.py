"""The report: one page that needs no network. Tables and text are written here, curves and maps drawn by Vega-Lite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from charlm.compare.cells import BEST, lines
from charlm.compare.rows import Point, Row, verdict
from charlm.compare.run import Comparison, opened
from charlm.errors import SettingsError
from charlm.inside.attend import Attended, attend
from charlm.inside.surprise import HOT, Surprise, surprise
from charlm.progress import result

TEMPLATE = Path(__file__).with_name("report.html")
AXES = {"seconds": "seconds of training", "tokens": "tokens read", "step": "optimizer steps"}
ATTENDED = 48  # tokens of the passage that attention is shown for


class Heat(NamedTuple):
    label: str
    bits_per_byte: float
    marks: list[tuple[str, float, float]]  # character, share of the hottest colour, bits


class Chart(NamedTuple):
    title: str
    spec: str  # JSON of Vega-Lite


def available() -> None:
    """Raise `SettingsError` if the extra is not installed."""
    try:
        import jinja2
        import vl_convert
    except ImportError:
        raise SettingsError('--html needs an extra: pip install "charlm[report]"; --markdown does not') from None
    del jinja2, vl_convert


def save(made: Comparison, path: Path) -> None:
    """Write the page. Raises `SettingsError` if it cannot be written."""
    text = page(made)
    try:
        path.write_bytes(text.encode("utf-8", "replace"))  # a model may write half a character
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; name another file") from None


def page(made: Comparison) -> str:
    """The whole page, scripts and all."""
    available()
    import vl_convert
    from jinja2 import Environment

    titles, shown = lines(made)
    there = [row for row in made.rows if row.trained]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        made=made,
        verdict=verdict(made.rows),
        titles=titles,
        lines=shown,
        best=BEST,
        curves=[Chart(title, inline(curve(there, field, title))) for field, title in AXES.items()],
        points=[(row.label, each.seed, each.curve) for row in there for each in row.trained],
        heats=list(heats(made, there)),
        maps=list(attention(made, there)),
        script=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"),
    )


def inline(spec: dict[str, Any]) -> str:
    """JSON that may stand in a script: nothing in it can end the script."""
    return json.dumps(spec).replace("<", "\\u003c")


def curve(rows: list[Row], field: str, title: str) -> dict[str, Any]:
    """Bits per byte of each validation along `field` of its `Point`."""
    values = [
        {"model": row.label, "seed": each.seed, **point._asdict()}
        for row in rows
        for each in row.trained
        for point in each.curve
    ]
    tooltips = [{"field": name} for name in ("model", "seed", *Point._fields)]
    return {
        "data": {"values": values},
        "width": "container",
        "height": 260,
        "mark": {"type": "line", "point": True, "tooltip": True},
        "encoding": {
            "x": {"field": field, "type": "quantitative", "title": title},
            "y": {"field": "bits_per_byte", "type": "quantitative", "title": "bits per byte", "scale": {"zero": False}},
            "color": {"field": "model", "type": "nominal", "title": None, "legend": {"orient": "top"}},
            "detail": {"field": "seed"},
            "tooltip": tooltips,
        },
    }


def heats(made: Comparison, rows: list[Row]) -> Iterator[Heat]:
    """How much each character of the passage surprises the first training of each model."""
    for row in rows if made.passage else ():
        found: Surprise = result(surprise(opened(row.trained[0].run), made.passage))
        marks = [(c, min(b / HOT, 1.0), b) for c, b in zip(made.passage, found.bits.tolist(), strict=True)]
        yield Heat(row.label, found.bits_per_byte, marks)


def attention(made: Comparison, rows: list[Row]) -> Iterator[Chart]:
    """Where the first training of each model that has attention looks, over the beginning of the passage."""
    for row in rows if made.passage else ():
        writer = opened(row.trained[0].run)
        ids = writer.tokenizer.encode(made.passage)[: min(ATTENDED, writer.model.window or ATTENDED)]
        try:
            found = attend(writer, writer.tokenizer.decoder().feed(*ids.tolist()))
        except SettingsError:  # it has no attention
            continue
        values = [
            {"row": at, "column": to, "looks from": a, "at": b, "weight": round(weight, 4)}
            for at, (a, line) in enumerate(zip(found.rows, found.weights, strict=True))
            for to, (b, weight) in enumerate(zip(found.columns, line, strict=False))
        ]
        yield Chart(f"{row.label}, layer {found.layer}, mean of its heads", inline(heat_map(values, found)))


def heat_map(values: list[dict[str, Any]], found: Attended) -> dict[str, Any]:
    """Tokens on both axes; what is looked at to the right, who looks downwards."""
    axis = {"grid": False, "ticks": False, "labelFont": "monospace", "labelAngle": 0, "labelOverlap": False}
    names = {"column": found.columns, "row": found.rows}
    sides = {
        channel: {
            "field": field,
            "type": "ordinal",
            "title": None,
            "axis": axis | {"labelExpr": f"{json.dumps([shown(t) for t in names[field]])}[datum.value]"},
        }
        for channel, field in (("x", "column"), ("y", "row"))
    }
    scale = {"scheme": "viridis", "domainMin": 0}
    return {
        "data": {"values": values},
        "width": "container",
        "height": 12 * len(found.rows),
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            **sides,
            "color": {"field": "weight", "type": "quantitative", "scale": scale, "legend": None},
            "tooltip": [{"field": name} for name in ("looks from", "at", "weight")],
        },
    }


def shown(token: str) -> str:
    return token.replace("\n", "↵").replace(" ", "·")
