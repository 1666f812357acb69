"""The `charlm` command: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import typer

from charlm import __version__
from charlm.cli.commands import PANELS
from charlm.cli.options import Command, Group
from charlm.errors import CharlmError, out_of_memory
from charlm.launch import launched
from charlm.text.visible import printable
from charlm.views.console import close_quietly, err

LESS_MEMORY = "give a smaller --batch-size (of pairs --batch-tokens), --seq-len or --hidden-size, or free some"


def build(argv: list[str], *, every: bool = False) -> typer.Typer:
    """The application, with the options of the command in `argv`, or with those of `every` command.

    The files of other commands are not imported. The options of `train` and the help of `compare` depend on `argv`.
    """
    app = typer.Typer(
        name="charlm",
        cls=Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Train LSTMs, attention seq2seq and transformers on a text file, and write new text with them.",
    )
    app.callback()(version_option)
    every = every or "_CHARLM_COMPLETE" in os.environ
    for panel, commands in PANELS.items():
        for name, (target, summary) in commands.items():
            command = load_command(target, argv) if every or argv[:1] == [name] else placeholder
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, help=summary, rich_help_panel=panel)
            else:
                app.command(name, cls=Command, help=summary, rich_help_panel=panel)(command)
    return app


def load_command(target: str, argv: Sequence[str]) -> Any:
    """Import `file.name`: a function, the application of a group, or `command`, which makes a function for `argv`."""
    file, _, name = target.partition(".")
    command = getattr(import_module(f"charlm.cli.{file}"), name)
    return command(argv) if name == "command" else command


def placeholder() -> None:
    """Stands for a command that is only listed on the help page."""


def show_version(requested: bool) -> None:
    if requested:
        print(f"charlm {__version__}")
        raise typer.Exit


def version_option(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version."),
) -> None:
    del version


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a bug, 2 an error for the user to mend, 130 interrupted."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """The exit code of one command line."""
    argv = [*argv[1:], "--help"] if argv[:1] == ["help"] else argv
    if rank := launched().rank:
        from charlm.cli.following import follow

        return explained(lambda: follow(argv), argv, who=f"process {rank}: ")
    if argv[:1] == ["train"]:
        from charlm.cli.train import complete_resume

        argv = complete_resume(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or a file that cannot show a bar shows a question mark
    return explained(lambda: build(argv)(args=argv, prog_name="charlm", standalone_mode=False), argv)


def explained(command: Callable[[], Any], argv: list[str], who: str = "") -> int:
    """The exit code of a command; what went wrong is told in one line, beginning with `who`."""
    try:
        code = command()
        sys.stdout.flush()
    except typer.TyperException as error:
        return complain(who + usage_message(error, argv)) if str(error) else 0  # empty: the help page was shown
    except CharlmError as error:
        return complain(who + str(error))
    except BrokenPipeError:
        close_quietly()
        return 0
    except OSError as error:
        close_quietly()  # it may be standard output that cannot be written
        return complain(who + f"{error.filename or 'the output'} cannot be read or written: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):  # which is a RuntimeError
        if sys.stdout.isatty():
            print()
        return 130
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return complain(who + f"there is not enough memory; {LESS_MEMORY}")
    return code if isinstance(code, int) else 0


def complain(message: str) -> int:
    """Print an error in one line, and return the exit code."""
    line = printable(" ".join(message.split()))  # a name in it may come from anywhere
    err.print(f"charlm: {line}", markup=False, style="red", soft_wrap=True)
    return 2


def usage_message(error: typer.TyperException, argv: list[str]) -> str:
    """A usage error in the style of our own: what was given, what is allowed, what to do."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    command: str = context.command_path
    if hasattr(error, "possibilities"):
        return unknown_option(getattr(error, "option_name", ""), error.possibilities or [], command, argv)
    if hasattr(error, "param") and (
        details := getattr(error.__cause__, "errors", None)
    ):  # of a value that does not fit
        requirement, given = in_our_words(details()[0]["msg"]), details()[0]["input"]
        shown = given if requirement.startswith("must be at ") else repr(given)
        return f"{error.param.opts[0]} {requirement}, got {shown}"
    if message.startswith("No such command"):
        return f"{message} There are {', '.join(context.command.commands)}; see {command} --help"
    if "unexpected extra argument" in message:
        extra = message.rpartition("(")[2].rstrip(")")
        advice = EXTRA_ADVICE.get(argv[0], f"see {command} --help").format(extra)
        return f"{context.info_name} takes no {extra!r} there; {advice}"
    return message


EXTRA_ADVICE = {"archs": "of one: charlm train --arch {0} --help", "eval": "to score another text: --text {0}"}


def in_our_words(message: str) -> str:
    """Typer's message about a value, in the words of `charlm.config.check`."""
    if " is not one of " in message:
        return "must be one of " + message.partition(" is not one of ")[2].replace("'", "").rstrip(".")
    text = message.partition(", unable")[0].replace("Input should be", "must be")
    text = text.replace("a valid integer", "a whole number").replace("a valid number", "a number")
    return text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")


def unknown_option(option: str, similar: Sequence[str], command: str, argv: list[str]) -> str:
    """The error for an option that a command lacks: of another architecture or command, or misspelt."""
    commands = typer.main.get_command(build([], every=True)).commands.items()  # type: ignore[attr-defined]
    others = [f"charlm {name}" for name, other in commands if any(option in param.opts for param in other.params)]
    if argv[0] in ("train", "plan"):
        from charlm.cli.planning import chosen_arch
        from charlm.plan import unknown_message

        return unknown_message(option.lstrip("-").replace("-", "_"), chosen_arch(argv), others)
    close = difflib.get_close_matches(option, similar, 1, 0.75)  # Typer would suggest --help for --novel
    hint = f" (did you mean {close[0]}?)" if close else ""
    advice = f"it belongs to {', '.join(others)}" if others and not close else f"see {command} --help"
    return f"{option} is no option of {command}{hint}; {advice}"
