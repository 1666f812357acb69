"""The `charlm` command: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper

import typer

from charlm import __version__
from charlm.cli.console import close_quietly, err
from charlm.errors import CharlmError

MAKE, WRITE, COMPARE, INSIDE, MANAGE = "Make a model", "Write", "Compare", "Look inside", "Manage"


def build(argv: Sequence[str]) -> typer.Typer:
    """The application. The options of `train` depend on its --arch, so the command line is looked at first."""
    from charlm.cli import (
        attend,
        compare,
        compress,
        context,
        corpus,
        demo,
        evaluate,
        explain,
        lists,
        neurons,
        novelty,
        runs,
        sample,
        score,
        train,
        watch,
    )

    app = typer.Typer(
        name="charlm",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Train LSTMs, attention seq2seq and transformers on a text file, and write new text with them.",
    )
    app.callback()(version_option)
    app.command("demo", rich_help_panel=MAKE)(demo.demo)
    app.command("train", rich_help_panel=MAKE)(train.command(argv))
    app.command("watch", rich_help_panel=MAKE)(watch.watch)
    app.command("sample", rich_help_panel=WRITE)(sample.sample)
    app.command("compare", rich_help_panel=COMPARE)(compare.compare)
    app.command("eval", rich_help_panel=COMPARE)(evaluate.evaluate)
    app.command("score", rich_help_panel=INSIDE)(score.score)
    app.command("explain", rich_help_panel=INSIDE)(explain.explain)
    app.command("attend", rich_help_panel=INSIDE)(attend.attend)
    app.command("neurons", rich_help_panel=INSIDE)(neurons.neurons)
    app.command("context", rich_help_panel=INSIDE)(context.context)
    app.command("novelty", rich_help_panel=INSIDE)(novelty.novelty)
    app.command("compress", rich_help_panel=INSIDE)(compress.compress)
    app.command("decompress", rich_help_panel=INSIDE)(compress.decompress)
    app.command("runs", rich_help_panel=MANAGE)(runs.runs)
    app.command("info", rich_help_panel=MANAGE)(runs.info)
    app.command("archs", rich_help_panel=MANAGE)(lists.archs)
    app.command("presets", rich_help_panel=MANAGE)(lists.presets)
    app.add_typer(corpus.app, name="corpus", rich_help_panel=MANAGE)
    return app


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"charlm {__version__}")
        raise typer.Exit


def version_option(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version."),
) -> None:
    del version


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a bug, 2 something to mend, 130 interrupted."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """The exit code of one command line."""
    from charlm.cli.train import name_the_run

    argv = name_the_run(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or a file that cannot show a bar shows a question mark
    try:
        code = build(argv)(args=argv, prog_name="charlm", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return complain(explain(error, argv)) if str(error) else 0  # empty: the help page was shown
    except CharlmError as error:
        return complain(str(error))
    except BrokenPipeError:
        close_quietly()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        if sys.stdout.isatty():
            print()
        return 130
    return code if isinstance(code, int) else 0


def complain(message: str) -> int:
    err.print("charlm: " + " ".join(message.split()), markup=False, style="red", soft_wrap=True)
    return 2


def explain(error: typer.TyperException, argv: list[str]) -> str:
    """A usage error in our words: an option of another architecture is named as such."""
    unknown = getattr(error, "option_name", None)
    if unknown and hasattr(error, "possibilities") and argv[:1] == ["train"]:
        from charlm.cli.train import chosen_arch
        from charlm.plan import stranger

        return stranger(unknown.lstrip("-").replace("-", "_"), chosen_arch(argv))
    return error.format_message() if hasattr(error, "format_message") else str(error)
