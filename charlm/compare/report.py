"""The report: one page that needs no network. Tables and text are written here, curves and maps drawn by Vega-Lite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charlm.compare.axes import AXES, BY_LENGTH, LENGTH, place
from charlm.compare.cells import BEST, lines
from charlm.compare.measure import opened
from charlm.compare.rows import Example, Row, examples, verdict
from charlm.compare.run import Comparison
from charlm.errors import SettingsError
from charlm.inside.attend import Attended, attend
from charlm.inside.surprise import HOT, Surprise, surprise
from charlm.progress import result
from charlm.score import Measure
from charlm.text.visible import visible

TEMPLATE = Path(__file__).with_name("report.html")
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


def page(made: Comparison) -> str:
    """The whole page, scripts and all. Raises `SettingsError` if the extra is not installed."""
    available()
    import vl_convert
    from jinja2 import Environment

    titles, shown = lines(made)
    trained = [row for row in made.rows if row.trained]
    pairs = examples(trained)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        made=made,
        verdict=verdict(made.rows),
        titles=titles,
        lines=shown,
        best=BEST,
        curves=[Chart(title, inline(curve(trained, made.measure, field, title))) for field, title in AXES.items()],
        points=[(row.label, each.seed, each.curve) for row in trained for each in row.trained],
        lengths=[
            Chart(title, inline(by_length(trained, field, title)))
            for field, title in BY_LENGTH.items()
            if any(row.bands and row.value(field) is not None for row in trained)
        ],
        examples=pairs,
        heats=list(heats(made, trained)),
        maps=list(attention(made.passage, pairs, trained)),
        script=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"),
    )


def inline(spec: dict[str, Any]) -> str:
    """JSON that may stand in a script: nothing in it can end the script."""
    return json.dumps(spec).replace("<", "\\u003c")


def curve(rows: list[Row], measure: Measure, field: str, title: str) -> dict[str, Any]:
    """The score of each validation along `field` of its `Point`."""
    values = [
        {"model": row.label, "seed": each.seed, **point.named(measure)}
        for row in rows
        for each in row.trained
        for point in each.curve
    ]
    said = ("model", "seed", "seconds", "tokens", "step", measure.name)
    made = lines_of(values, said, (field, title), (measure.name, measure.words))
    made["encoding"]["y"]["scale"] = {"zero": False}
    made["encoding"]["detail"] = {"field": "seed"}
    return made


def by_length(rows: list[Row], field: str, title: str) -> dict[str, Any]:
    """How good translations are, a `field` of their `Band`, by the length of the source."""
    values = [
        {"model": row.label, **band._asdict(), "length": point[0], field: point[1]}
        for row in rows
        for band in row.bands
        if (point := place(band, field))
    ]
    told = ("model", "shortest", "longest", "pairs", field)
    made = lines_of(values, told, ("length", LENGTH), (field, title))
    made["encoding"]["y"]["scale"] = {"domain": [0, 100]}
    return made


def lines_of(
    values: list[dict[str, Any]], told: Sequence[str], x: tuple[str, str], y: tuple[str, str]
) -> dict[str, Any]:
    """A line for each model; `x` and `y` are a field and its title, `told` is what a point says when it is asked."""
    return {
        "data": {"values": values},
        "width": "container",
        "height": 260,
        "mark": {"type": "line", "point": True, "tooltip": True},
        "encoding": {
            "x": {"field": x[0], "type": "quantitative", "title": x[1]},
            "y": {"field": y[0], "type": "quantitative", "title": y[1]},
            "color": {
                "field": "model",
                "type": "nominal",
                "title": None,
                "legend": {"orient": "top", "columns": 1, "labelLimit": 0},
            },
            "tooltip": [{"field": name} for name in told],
        },
    }


def heats(made: Comparison, rows: list[Row]) -> Iterator[Heat]:
    """How much each character of the passage surprises the first training of each model."""
    for row in rows if made.passage else ():
        writer = opened(row.trained[0].run)
        if not writer.can_continue:
            continue
        found: Surprise = result(surprise(writer, made.passage))
        marks = [(c, min(b / HOT, 1.0), b) for c, b in zip(made.passage, found.bits.tolist(), strict=True)]
        yield Heat(row.label, found.bits_per_byte, marks)


def attention(passage: str, pairs: list[Example], rows: list[Row]) -> Iterator[Chart]:
    """Where the first training of each model that has attention looks: over the beginning of the passage, or at a
    source of middle length while it is fed the right target, which is the same for all."""
    for row in rows if passage or pairs else ():
        writer = opened(row.trained[0].run)
        if not (pairs or writer.can_continue):
            continue
        try:
            if pairs:
                source, text, _ = pairs[len(pairs) // 2]
            else:
                ids = writer.tokenizer.encode(passage)[: min(ATTENDED, writer.model.window or ATTENDED)]
                source, text = None, writer.tokenizer.decoder().feed(*ids.tolist())
            found = attend(writer, text, source=source)
        except SettingsError:
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
            "axis": axis | {"labelExpr": f"{json.dumps([visible(t) for t in names[field]])}[datum.value]"},
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
