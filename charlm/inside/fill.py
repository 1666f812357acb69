"""Fill gaps in a text with the likeliest tokens.

Each kind of run does that in its own way (`candidates.py`): one that was trained to guess hidden tokens, or tokens in
any order, says what stands in a gap; one that guesses each next token is asked how likely the whole text becomes with
each candidate in it; one that was trained to restore a text writes what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlm import kinds
from charlm.errors import SettingsError
from charlm.inside.candidates import LONGEST, WIDTH, Blank, Filler, before_and_after, between, by_writing, in_order
from charlm.model import PAD, EncoderDecoder, LanguageModel
from charlm.objectives._hiding import MASK, Hiding
from charlm.objectives._restoring import Restoring
from charlm.objectives.permute import Permute
from charlm.progress import Progress
from charlm.text.tokenizers import Tokenizer
from charlm.text.units import Ids
from charlm.writer import Writer

GAPS = re.compile(r"((?:\[MASK\](?:\{\d{1,9}\})?)+)")  # [MASK], [MASK]{3}, [MASK][MASK]
COUNT = re.compile(r"\[MASK\](?:\{(\d{1,9})\})?")


class Guess(NamedTuple):
    text: str
    share: float


class Gap(NamedTuple):
    tokens: int | None  # None: as many as a run writes
    guesses: list[Guess]  # the best first
    tried: int | None  # candidates that the shares are of; None: all that are possible


class Filled(NamedTuple):
    text: str  # with the best guess in each gap
    gaps: list[Gap]

    def to_json(self) -> dict[str, Any]:
        gaps = [gap._asdict() | {"guesses": [guess._asdict() for guess in gap.guesses]} for gap in self.gaps]
        return {"text": self.text, "gaps": gaps}


def fill(writer: Writer, text: str, top: int = 5) -> Generator[Progress, None, Filled]:
    """The `top` best guesses for each gap of `text`: `[MASK]` is one token, `[MASK]{3}` and `[MASK][MASK][MASK]` three.

    For a run that learnt to write spans (`--objective span`, or `denoise` with `infill`) `[MASK]` is any number of
    tokens, also none; `[MASK]{1}` is one, and every other count is binding too.

    Gaps are filled from left to right: the guesses for one take the best ones before it for granted. So are the tokens
    of a gap, of which the likeliest beginnings are kept, and a guess's share is the product of those of its tokens.

    Raises `SettingsError` for a text without gaps, and for a run that cannot fill any; `VocabularyError` for characters
    that the vocabulary lacks.
    """
    guess = filler(writer)
    ids, blanks = parse(writer.tokenizer, text)
    if isinstance(writer.objective, Restoring) and writer.objective.spans:
        blanks = [blank if blank.counted else blank._replace(size=None) for blank in blanks]
    filled, length = list[Gap](), len(ids)
    for number, blank in enumerate(blanks):
        yield Progress("filling gaps", number, len(blanks))
        moved = [other._replace(place=other.place + len(ids) - length) for other in blanks[number:]]
        candidates = guess(writer, ids, moved, max(top, WIDTH))
        rows = [[id for id in row if id != PAD] for row in candidates.ids[:top].tolist()]
        place = moved[0].place
        ids = torch.cat([ids[:place], torch.tensor(rows[0], dtype=torch.long), ids[place + blank.symbols :]])
        texts = [writer.tokenizer.decode(row) for row in rows]
        shares = candidates.logprobs[:top].exp().tolist()
        tried = None if candidates.complete else len(candidates.ids)
        filled.append(Gap(blank.size, [Guess(*pair) for pair in zip(texts, shares, strict=True)], tried))
    return Filled(writer.tokenizer.decode(ids.tolist()), filled)


def filler(writer: Writer) -> Filler:
    """What fills gaps with this run. Raises `SettingsError` if nothing does."""
    if isinstance(writer.objective, Restoring):
        return by_writing
    writer.refuse_other_commands("fill")
    kinds.refuse_another(writer.kind, kinds.TEXT)
    if isinstance(writer.objective, Hiding):
        return between
    if isinstance(writer.objective, Permute):
        return in_order
    if isinstance(writer.model, EncoderDecoder):
        raise SettingsError(
            f"this run learnt to go on with a text ({writer.objective.name()}) and not to fill gaps: charlm sample "
            "does that; to fill them use a run of --arch bert, lstm or transformer, or of --objective denoise or span"
        )
    if not isinstance(writer.model, LanguageModel):
        raise SettingsError(
            f"this run learnt another task ({writer.objective.name()}) and fills no gaps; see charlm eval"
        )
    return before_and_after


def parse(tokenizer: Tokenizer, text: str) -> tuple[Tensor, list[Blank]]:
    """(ids (N,) with symbols in gaps, the gaps from left to right).

    Where tokens begin with the space before a word, a space before a gap belongs to the gap.
    """
    parts: list[Ids] = []
    gaps, length = list[Blank](), 0
    for number, part in enumerate(pieces := GAPS.split(text)):
        if number % 2:
            size = sum(int(count or 1) for count in COUNT.findall(part))
            if not 1 <= size <= LONGEST:
                raise SettingsError(f"a gap must have from 1 to {LONGEST} tokens, got {size}: {part[:40]}")
            gaps.append(Blank(length, size, size, counted=part != "[MASK]"))
            parts.append(np.full(size, tokenizer.vocab_size + MASK))
        else:
            last = number == len(pieces) - 1
            parts.append(
                tokenizer.encode(part[:-1] if tokenizer.joins_blanks and part.endswith(" ") and not last else part)
            )
        length += len(parts[-1])
    if not gaps:
        raise SettingsError('the text has no gap; write [MASK] where a token is wanted: "To be, or [MASK] to be"')
    return torch.from_numpy(np.concatenate(parts)), gaps
