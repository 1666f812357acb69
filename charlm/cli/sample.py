"""`charlm sample`."""

from __future__ import annotations

import json as jsonlib
import secrets
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from charlm.cli.console import err, write
from charlm.cli.options import Device, Quantize, Weights, with_settings
from charlm.config import Arg, Settings, take
from charlm.errors import SettingsError
from charlm.sampling.settings import SampleSettings
from charlm.sampling.stream import Until

LONG = 20_000  # characters of a prompt that take a moment to read


@dataclass(frozen=True)
class Amount(Settings):
    """How much to write."""

    length: Annotated[int, Arg("tokens to write, 0 = without end", min=0, max=10**15)] = 500
    samples: Annotated[int, Arg("texts to write, in one batch", min=1, max=65_536)] = 1
    seed: Annotated[
        int | None, Arg("the same seed writes the same text [default: another each time]", min=0, max=2**63 - 1)
    ] = None


@with_settings({"How much": Amount, "Picking": SampleSettings})
def sample(
    run: Annotated[str, typer.Argument(help="run: a folder, a name under runs/, last or best")] = "last",
    prompt: Annotated[str, typer.Option(help="text to continue; - reads standard input")] = "",
    prompt_file: Annotated[
        Path | None,
        typer.Option(help="file whose text is continued; - reads standard input", show_default=False),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="end before this text (may be given several times)", show_default=False),
    ] = None,
    unknown: Annotated[
        Literal["error", "skip", "nearest"], typer.Option(help="what to do about prompt characters the run never saw")
    ] = "error",
    weights: Annotated[Weights, typer.Option(help="the best on the validation text, or the last")] = "best",
    device: Annotated[Device, typer.Option(help="where to compute")] = "auto",
    quantize: Quantize = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per text, with log-probabilities")] = False,
    *,
    given: dict[str, Any],
) -> None:
    """Write new text. [dim]charlm sample --temperature 0.8 --prompt "Once"[/]"""
    amount, settings = take(Amount, given), take(SampleSettings, given)
    if amount.length == 0 and (amount.samples > 1 or json):
        raise SettingsError("--length 0 writes one text without end; give a length with --samples or --json")
    text = read_prompt(prompt, prompt_file)
    seed = secrets.randbits(31) if amount.seed is None else amount.seed
    from charlm.writer import Writer

    writer = Writer.load(run, weights=weights, device=device, quantize=quantize)
    pieces = iter(writer.pieces(text, settings, samples=amount.samples, seed=seed, unknown=unknown))
    with err.status("reading the prompt") if len(text) > LONG else nullcontext():
        pieces = chain([next(pieces)], pieces)
    rows = [Row(stop or []) for _ in range(amount.samples)]
    for number, piece in enumerate(pieces, 1):
        if number == 1 and not json:
            write(text)  # not before: a prompt that cannot be read must leave nothing behind
        logprobs = piece.logprobs.tolist() if json else [0.0] * amount.samples
        for row, new, logprob in zip(rows, piece.texts, logprobs, strict=True):
            row.add(new, logprob, keep=amount.samples > 1 or json)
        if not json:
            write(rows[0].new)  # the first text streams, the others follow when all are done
        if number == amount.length or all(row.until.done for row in rows):
            break
    if json:
        for row in rows:
            print(jsonlib.dumps({"prompt": text, "text": row.text(), "seed": seed, "tokens": row.kept_tokens()}))
        return
    write(rows[0].until.flush() + "\n")
    for row in rows[1:]:
        write(f"{'-' * 40}\n{text}{row.text()}\n")


class Row:
    """One of the texts being written."""

    def __init__(self, stops: list[str]) -> None:
        self.until = Until(stops)
        self.new = ""
        self.parts: list[str] = []
        self.tokens: list[dict[str, Any]] = []

    def add(self, piece: str, logprob: float, *, keep: bool) -> None:
        """Take a token's text; what an endless text has written is not kept."""
        if keep and not self.until.done:
            self.tokens.append({"text": piece, "logprob": round(logprob, 5)})
        self.new = self.until.feed(piece)
        if keep:
            self.parts.append(self.new)

    def text(self) -> str:
        return "".join(self.parts) + self.until.flush()

    def kept_tokens(self) -> list[dict[str, Any]]:
        """The tokens of `text`, without those of a stop string."""
        length, ends = len(self.text()), accumulate(len(token["text"]) for token in self.tokens)
        return [token for token, end in zip(self.tokens, ends, strict=True) if end <= length]


def read_prompt(prompt: str, file: Path | None) -> str:
    if prompt and file:
        raise SettingsError("--prompt and --prompt-file both say what to continue; give one of them")
    piped = "-" in (prompt, str(file))
    if file is None and not piped:
        return prompt
    try:
        return (sys.stdin.buffer.read() if piped or file is None else file.read_bytes()).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the prompt in {'standard input' if piped else file} cannot be read: {error}") from None
