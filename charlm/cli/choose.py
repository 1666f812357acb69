"""`charlm choose`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.asking import or_default, refuse_unused
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import present
from charlm.cli.texts import PIPED, read_words
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.views.choose import accuracies, ranking
from charlm.views.console import note, watch

if TYPE_CHECKING:
    pass


@with_settings(OPENING)
def choose(
    run: Run = "last",
    prompt: Annotated[
        str | None, typer.Option(help="the text before the choices, or - for standard input", show_default=False)
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="how it may go on; twice or more often", show_default=False)
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            help='many of them: JSON lines of {"prompt": …, "choices": \\[…], "answer": index or text}, or -',
            show_default=False,
        ),
    ] = None,
    neutral: Annotated[
        str | None, typer.Option(help="prompt to compare with \\[default: a blank page]", show_default=False)
    ] = None,
    shots: Annotated[int, typer.Option(help="answered examples before each prompt", min=0, max=1000)] = 0,
    examples: Annotated[
        str | None, typer.Option(help="file of questions that they are drawn from", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="of the drawing")] = 0,
    encoding: Encoding = None,
    json: Json = False,
    *,
    given: dict[str, Any],
) -> None:
    if bool(questions) == bool(choice):
        raise SettingsError('give --prompt TEXT --choice "A" --choice "B", or --questions FILE')
    if questions and prompt is not None:
        raise SettingsError("--prompt is for --choice; the prompts of --questions are in its file")
    if bool(shots) != bool(examples):
        raise SettingsError("--shots N and --examples FILE belong together")
    read = PIPED in (prompt, neutral) or bool(questions or examples)
    refuse_unused(encoding, read=read, advice="--questions FILE, --examples FILE or --prompt -")
    path = folder.find(run, kind="text", command="")
    from charlm.inside.choose import Question, checked, draw, read_questions
    from charlm.inside.choose import choose as choosing

    if questions:
        asked = read_questions(questions, or_default(encoding))
    else:
        asked = [checked(Question(read_words("--prompt", prompt or "", encoding), choice or []))]
    pool = read_questions(examples, or_default(encoding)) if examples else []
    drawn = draw(pool, shots, asked, seed)
    with open_run(run, path, take(Opening, given)) as writer:
        found = watch(choosing(writer, asked, neutral=read_words("--neutral", neutral or "", encoding), shots=drawn))
    if found.too_long:
        some = "the prompt is" if len(asked) == 1 else f"{found.too_long} of {len(asked)} prompts are"
        note(f"{some} longer than the model's window of {writer.model.window} tokens: it saw only the end")
    present(accuracies(found) if questions else ranking(found.answered[0]), found.to_json, json=json)
