"""From settings dataclasses to options of a Typer command."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, get_origin, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from charlm.cli.page import show_page
from charlm.config import Arg, Field, Settings, fields_of, parse_value, without_none
from charlm.errors import as_typed

NONE: Mapping[str, Any] = {}
RUN = "run: a folder, a name under runs/, last or best"
Run = Annotated[str, typer.Argument(help=RUN)]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="how bytes spell characters in what is read \\[default: as a byte order mark says, or utf-8]",
        show_default=False,
    ),
]
OtherText = Annotated[
    list[str] | None,
    typer.Option(help="another text than the run's held-out one: a file, folder or pattern", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="as a JSON object")]
TYPE_NAMES = {  # of values, on the help pages, by Typer's own
    "bool": "",
    "int": "INT",
    "int range": "INT",
    "float": "FLOAT",
    "float range": "FLOAT",
    "str": "TEXT",
    "path": "PATH",
    "list[str]": "FILE",
}
NARROW = 18  # columns for a list of choices
HIGH = 1e5  # larger bounds are not shown
Panels = Mapping[str, type[Settings]]


def name_values(params: list[Any], ctx: Any) -> list[Any]:
    """Parameters for whose values the help page shows choices or `TYPE_NAMES`, and for switches nothing."""
    for param in params:
        if not hasattr(param, "display_type"):  # other versions of Typer have another help page
            continue
        kind = param.display_type(ctx).strip("<>")
        choices = textwrap.fill(kind.replace("|", ", "), NARROW)
        if param.param_type_name == "argument":  # its help text names it
            param.display_type = functools.partial(lambda text, _: text, "" if kind in TYPE_NAMES else choices)
        elif param.metavar is None:
            param.metavar = TYPE_NAMES.get(kind, choices)
    return params


class Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return name_values(super().get_params(ctx), ctx)


class Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        show_page(self, ctx)


def with_settings(
    panels: Panels,
    recipe: Mapping[str, Any] = NONE,
    otherwise: Mapping[str, Mapping[str, Any]] = NONE,
    *,
    without: Collection[str] = (),
) -> Callable[..., Callable[..., None]]:
    """A decorator that gives a command an option per field. The command gets the typed ones as the dict `given`.

    `panels` maps headings of the help page to settings classes, of which the fields in `without` are left out; `recipe`
    holds defaults that replace the fields' own; `otherwise` maps a condition, in words, to the defaults under it.
    """
    fields: dict[str, tuple[str, Field]] = {}
    for panel, settings in panels.items():
        for field in fields_of(settings):  # one settings class may extend another
            fields[field.name] = fields.get(field.name, (panel,))[0], field
    included = [(panel, field) for panel, field in fields.values() if field.name not in without]
    options = [
        as_parameter(
            panel,
            field,
            recipe.get(field.name, field.default),
            {when: values[field.name] for when, values in otherwise.items() if field.name in values},
        )
        for panel, field in included
    ]

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        own = [
            p.replace(annotation=hints[name])
            for name, p in inspect.signature(function).parameters.items()
            if name != "given"
        ]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            typed = {field: values.pop(field.name) for _, field in included}
            given = {field.name: parse_value(field, value) for field, value in typed.items() if value is not None}
            function(**values, given=given)

        command.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in [*own, *options]}
        del command.__wrapped__  # or inspect would see the function's parameters, without the options
        return command

    return wrap


def as_parameter(panel: str, field: Field, default: Any, otherwise: Mapping[str, Any]) -> inspect.Parameter:
    """A keyword parameter, from which Typer makes an option. It is None unless typed; `default` is only shown."""
    kind, _ = without_none(field.type)
    help_text = field.arg.help
    if default not in (None, "", ()):
        others = {when: value for when, value in otherwise.items() if value != default}
        values = [as_typed(default), *(f"{as_typed(value)} {when}" for when, value in others.items())]
        help_text += f" [default: {'; '.join(values)}]"
    names = [f"{field.flag}/--no-{field.flag[2:]}"] if kind is bool else [field.flag]
    # Numbers stay text without bounds: settings check them, with the same messages for shell, files and Python.
    number, several = kind in (int, float), get_origin(kind) is tuple
    metavar = kind.__name__.upper() + bounds(field.arg) if number else "TEXT" if several else None
    option = typer.Option(*names, help=escape(help_text), show_default=False, rich_help_panel=panel, metavar=metavar)
    typed: Any = str if number else list[str] if several else kind
    annotation = Annotated[typed | None, option]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def bounds(arg: Arg) -> str:
    """The bounds in the form in which Typer shows those of its own options."""
    if arg.min is None:
        return ""
    return f" [{arg.min:g}<=x<={arg.max:g}]" if arg.max is not None and arg.max <= HIGH else f" [x>={arg.min:g}]"
