"""The report: one HTML page that needs no network. Tables and text are HTML, charts are drawn by Vega-Lite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charlm.comparing.axes import AXES, BY_LENGTH, LENGTH, point
from charlm.comparing.cells import BEST, lines
from charlm.comparing.counts import COMMONEST, TEXTS, by_line, commonest, counts
from charlm.comparing.measure import open_run
from charlm.comparing.rows import Example, Row, examples
from charlm.comparing.run import Comparison
from charlm.errors import SettingsError
from charlm.inside.attend import Attended, attend
from charlm.inside.surprise import HOT, Surprise, surprise
from charlm.progress import result
from charlm.score import Measure
from charlm.text.visible import visible

TEMPLATE = Path(__file__).with_name("report.html")
ATTENDED = 48  # tokens of the passage in attention maps


class Heat(NamedTuple):
    """How much the characters of a passage surprise a model."""

    label: str
    bits_per_byte: float
    marks: list[tuple[str, float, float]]  # (character, colour from 0 to 1, bits)


class Chart(NamedTuple):
    title: str
    spec: str  # Vega-Lite JSON


def check_extra() -> None:
    """Raise `SettingsError` if the extra is not installed."""
    try:
        import jinja2
        import vl_convert
    except ImportError:
        raise SettingsError('--html needs an extra: pip install -e ".[report]"; --markdown does not') from None
    del jinja2, vl_convert


def page(comparison: Comparison) -> str:
    """The whole page as HTML. Raises `SettingsError` if the extra is not installed."""
    check_extra()
    import vl_convert
    from jinja2 import Environment

    titles, table = lines(comparison)
    trained = [row for row in comparison.rows if row.trained]
    pairs, measure = examples(trained), comparison.measure
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        comparison=comparison,
        verdict=comparison.verdict,
        titles=titles,
        lines=table,
        best=BEST,
        curves=[Chart(title, inline(curve(trained, measure, field, title))) for field, title in AXES.items()],
        points=[(row.label, training.seed, training.curve) for row in trained for training in row.trained],
        lengths=[
            Chart(title, inline(by_length(trained, field, title)))
            for field, title in BY_LENGTH.items()
            if any(row.bands and row.value(field) is not None for row in trained)
        ],
        counted=inline(by_count(comparison.rows, measure)) if counts(comparison.rows) else "",
        examples=pairs,
        heats=list(heats(comparison, trained)),
        maps=list(attention(comparison.passage, pairs, trained)),
        script=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"),
    )


def inline(spec: dict[str, Any]) -> str:
    """JSON that is safe within a script element."""
    return json.dumps(spec).replace("<", "\\u003c")


def curve(rows: list[Row], measure: Measure, field: str, title: str) -> dict[str, Any]:
    """A chart of the validation scores along `field` of their `Point`."""
    values = [
        {"model": row.label, "seed": training.seed, **validation.named(measure)}
        for row in rows
        for training in row.trained
        for validation in training.curve
    ]
    tooltip = ("model", "seed", "seconds", "tokens", "step", measure.name)
    chart = line_chart(values, tooltip, (field, title), (measure.name, measure.words))
    chart["encoding"]["y"]["scale"] = {"zero": False}
    chart["encoding"]["detail"] = {"field": "seed"}
    return chart


def by_length(rows: list[Row], field: str, title: str) -> dict[str, Any]:
    """A chart of the quality of translations, `field` of their `Band`, by the length of the source."""
    values = [
        {"model": row.label, **band._asdict(), "length": xy[0], field: xy[1]}
        for row in rows
        for band in row.bands
        if (xy := point(band, field))
    ]
    tooltip = ("model", "shortest", "longest", "pairs", field)
    chart = line_chart(values, tooltip, ("length", LENGTH), (field, title))
    chart["encoding"]["y"]["scale"] = {"domain": [0, 100]}
    return chart


def by_count(rows: list[Row], measure: Measure) -> dict[str, Any]:
    """A chart of the scores along the number of labelled texts, with their intervals over seeds."""
    numbers, share = counts(rows), commonest(rows)
    values = [
        {"model": line, "texts": spot.texts, measure.name: spot.value, "low": spot.low, "high": spot.high}
        for line, spots in by_line(rows).items()
        for spot in spots
        if spot.value is not None
    ]
    values += [{"model": COMMONEST, "texts": n, measure.name: share} for n in numbers if share is not None]
    chart = line_chart(
        values, ("model", "texts", measure.name, "low", "high"), ("texts", TEXTS), (measure.name, measure.words)
    )
    chart["encoding"]["x"] |= {"scale": {"type": "log"}, "axis": {"values": numbers}}
    chart["encoding"]["y"]["scale"] = {"zero": False}
    interval = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    chart["layer"] = [{"mark": chart.pop("mark")}, {"mark": "rule", "encoding": interval}]
    return chart


def line_chart(
    values: list[dict[str, Any]], tooltip: Sequence[str], x: tuple[str, str], y: tuple[str, str]
) -> dict[str, Any]:
    """A line for every model; `x` and `y` are (field, title), `tooltip` the fields that are shown for a point."""
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
            "tooltip": [{"field": name} for name in tooltip],
        },
    }


def heats(comparison: Comparison, rows: list[Row]) -> Iterator[Heat]:
    """How much every character of the passage surprises the first training of every model."""
    passage = comparison.passage
    for row in rows if passage else ():
        writer = open_run(row.trained[0].run)
        if not writer.can_continue:
            continue
        scored: Surprise = result(surprise(writer, passage))
        marks = [(c, min(b / HOT, 1.0), b) for c, b in zip(passage, scored.bits.tolist(), strict=True)]
        yield Heat(row.label, scored.bits_per_byte, marks)


def attention(passage: str, pairs: list[Example], rows: list[Row]) -> Iterator[Chart]:
    """Attention maps of the first training of every model that has attention: over the beginning of the passage, or of
    the target over the source of an example of middle length."""
    for row in rows if passage or pairs else ():
        writer = open_run(row.trained[0].run)
        if not (pairs or writer.can_continue):
            continue
        try:
            if pairs:
                source, text, _ = pairs[len(pairs) // 2]
            else:
                ids = writer.tokenizer.encode(passage)[: min(ATTENDED, writer.model.window or ATTENDED)]
                source, text = None, writer.tokenizer.decoder().feed(*ids.tolist())
            attended = attend(writer, text, source=source)
        except SettingsError:
            continue
        values = [
            {"row": r, "column": c, "looks from": query, "at": key, "weight": round(weight, 4)}
            for r, (query, weights) in enumerate(zip(attended.rows, attended.weights, strict=True))
            for c, (key, weight) in enumerate(zip(attended.columns, weights, strict=False))
        ]
        yield Chart(f"{row.label}, layer {attended.layer}, mean of its heads", inline(heat_map(values, attended)))


def heat_map(values: list[dict[str, Any]], attended: Attended) -> dict[str, Any]:
    """A map of attention weights: a column for every key, a row for every query."""
    axis = {"grid": False, "ticks": False, "labelFont": "monospace", "labelAngle": 0, "labelOverlap": False}
    names = {"column": attended.columns, "row": attended.rows}
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
        "height": 12 * len(attended.rows),
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            **sides,
            "color": {"field": "weight", "type": "quantitative", "scale": scale, "legend": None},
            "tooltip": [{"field": name} for name in ("looks from", "at", "weight")],
        },
    }
