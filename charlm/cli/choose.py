"""`charlm choose`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from charlm.cli.console import note, table, watch
from charlm.cli.opened import OPENING, open_run
from charlm.cli.options import Encoding, Json, Run, with_settings
from charlm.cli.pictures import present
from charlm.cli.texts import PIPED, or_default, read_words, refuse_unused
from charlm.config import take
from charlm.errors import SettingsError
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.text.visible import brief, visible

if TYPE_CHECKING:
    from charlm.inside.choose import Answered, Answers

LONGEST = 30  # characters of a prompt that are shown
GAIN = "gain: what the prompt adds over a neutral one"


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
    path = folder.find(run, kind="text")
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


def ranking(answered: Answered) -> RenderableType:
    """The choices of one question; the best by each measure are marked."""
    from charlm.inside.choose import MEASURES

    rows = table("choice", *(f">{words}" for words in MEASURES.values()))
    rows.columns[0].no_wrap = False  # or a long choice would leave no room for the numbers
    best = {measure: answered.best(measure) for measure in MEASURES}
    for number, one in enumerate(answered.choices):
        values = (f"{'* ' if number in best[name] else ''}{getattr(one, name):.3f}" for name in MEASURES)
        rows.add_row(Text(visible(one.text, space=" ")), *values)
    return Group(rows, Text(f"log-probabilities in nats; {GAIN}; *: the highest", "dim"))


def accuracies(found: Answers) -> RenderableType:
    """How many questions were answered right by each measure, or, where no answers are known, what was chosen."""
    from charlm.inside.choose import MEASURES

    if not found.accuracies():
        chosen = table("prompt", *MEASURES.values())
        for one in found.answered:
            best = (" or ".join(one.choices[index].text for index in one.best(measure)) for measure in MEASURES)
            prompt = brief(one.question.prompt, LONGEST, space=" ")
            chosen.add_row(Text(prompt), *(Text(visible(text, space=" ")) for text in best))
        return Group(chosen, Text(GAIN, "dim"))
    rows = table("", ">right", "95 % interval")
    for measure, (value, low, high) in found.accuracies().items():
        rows.add_row(MEASURES[measure], f"{value:.1%}", f"{low:.1%} to {high:.1%}")
    for name, share in found.baselines().items():
        rows.add_row(name, f"{share:.1%}", style="dim")
    return Group(rows, Text(f"{len(found.answered)} questions, {len(found.shots)} shots; {GAIN}", "dim"))
