"""Guess tokens that are hidden, from what stands on both sides of them.

Masked language modelling (Devlin et al. 2018, arXiv:1810.04805, section 3.1, task 1): 15 % are chosen, of which 80 %
become a symbol, 10 % a random token, and 10 % stay (`_hiding.py`); all chosen ones are guessed. Which ones is drawn for
each batch, as in Liu et al. 2019, arXiv:1907.11692 (RoBERTa, section 4.1). With `--next-sentence` (task 2) two texts
stand in a row, and whether the second follows the first is asked as well.

Where we differ: each token, word or phrase is chosen by itself with that probability, and of a row one at least; random
tokens are never symbols; a second text begins with a line, where there is one to begin with.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.config import Arg, DataSpec
from charlm.errors import SettingsError
from charlm.evaluate import ROWS, rows_at_once
from charlm.model import PAD, Output, State
from charlm.objectives._base import Arrays, Batch, Loss, guessed_score, summed_nats, windows
from charlm.objectives._hiding import MASK, Hiding, hide, single
from charlm.progress import Progress
from charlm.score import Measure, Score

CLS, SEP = MASK + 1, MASK + 2  # symbols: before the first of two texts; after each of them
FRAME = 3  # symbols around two texts


@dataclass(frozen=True)
class Masked(Hiding):
    next_sentence: Annotated[bool, Arg("two texts in a row: guess whether the second follows the first too")] = False

    measure: ClassVar[Measure] = Measure("nats_per_masked_token", "nats/masked token", across=False)
    symbols = 3

    @property
    def answers(self) -> int:
        return 2 if self.next_sentence else 0

    def check(self, spec: DataSpec) -> None:
        if self.next_sentence and spec.lengths.training < FRAME + 2:
            raise SettingsError(
                f"--next-sentence puts two texts and {FRAME} symbols into a row, and rows hold "
                f"{spec.lengths.training} tokens; give a larger --seq-len, or a longer text",
                field="next_sentence",
            )

    @property
    def least_rows(self) -> int:
        return 2 if self.next_sentence else 1

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:
        (windows,) = rows
        text = windows[:, :-1]  # the last token is the first of the next window
        if not self.next_sentence:
            return Batch(*self.hide(text, spec, rng))
        tokens, segments, answers = pairs(text, spec, rng)
        return Batch(*self.hide(tokens, spec, rng), None, segments, answers)

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        return self.cost(network, batch, self.read(network, batch, state))

    def read(self, network: Any, batch: Batch, state: State) -> Output:
        """What a network guesses; the penalty is the mean cost of what it says of the rows as a whole."""
        if batch.answers is None:
            return Output(network(batch.tokens), state)
        if not hasattr(network, "judge"):
            raise SettingsError(
                "--next-sentence needs a network that judges a text as a whole, as bert does", field="next_sentence"
            )
        vectors = network.encode(batch.tokens, batch.segments)  # twice used, so not by the compiled `forward`
        nats = F.cross_entropy(network.judge(vectors).float(), batch.answers, ignore_index=PAD, reduction="sum")
        return Output(network.head(vectors), state, nats / (batch.answers != PAD).sum().clamp(min=1))

    def cost(self, network: Any, batch: Batch, out: Output) -> Loss:  # noqa: ARG002
        """What that costs. With `--next-sentence` the mean of that question's cost is minimised too (their sum, as
        published)."""
        penalty = None if out.penalty is None else out.penalty * (batch.targets != PAD).sum()
        return Loss(summed_nats(out.logits, batch.targets), out.state, penalty)

    def at_once(self, spec: DataSpec) -> int:
        return super().at_once(spec) - (2 if self.next_sentence else 0)

    def guesses(self, network: Any, tokens: Tensor) -> Tensor:
        """Framed as the first of two texts is."""
        if not self.next_sentence:
            return super().guesses(network, tokens)
        framed = F.pad(tokens, (1, 1), value=network.spec.vocab_size + SEP)
        framed[:, 0] = network.spec.vocab_size + CLS
        return super().guesses(network, framed)[:, 1:-1]

    @torch.inference_mode()
    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """Nats per hidden token. Single tokens are hidden, whatever `--mask` hides in training, and where depends on
        the text's length alone: so runs compare. With `--next-sentence` the share of right answers to that, too."""
        network.eval()
        spec, rng = network.spec, torch.Generator().manual_seed(0)
        ids = torch.from_numpy(part.ids.astype("int64"))[None]  # (1, N)
        length = min(spec.lengths.training, self.at_once(spec))
        fed, targets = (windows(t, length) for t in hide(ids, single(ids), spec, rng))
        at_once = rows_at_once(length, spec.vocab_size)
        device, nats, done = next(network.parameters()).device, 0.0, 0
        for rows, wanted in zip(torch.split(fed, at_once), torch.split(targets, at_once), strict=True):
            nats += float(summed_nats(self.guesses(network, rows.to(device)), wanted.to(device)))
            done += int((rows != PAD).sum())
            yield Progress("scoring", done, ids.size(1))
        figures = {}
        if self.next_sentence:
            figures["next_sentence"] = self.accuracy(network, windows(ids, spec.lengths.training), rng)
        return guessed_score(nats, targets, spec, length, self.measure, **figures)

    def accuracy(self, network: Any, rows: Tensor, rng: torch.Generator) -> float:
        """The share of right answers about rows (R, T) of a text."""
        right = count = 0
        device = next(network.parameters()).device
        for some in torch.split(rows, ROWS):
            tokens, segments, answers = pairs(some, network.spec, rng)
            said = network.judge(network.encode(tokens.to(device), segments.to(device))).argmax(-1).cpu()
            right += int((said == answers).sum())
            count += int((answers != PAD).sum())
        return right / max(count, 1)


def pairs(text: Tensor, spec: DataSpec, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens, segments, answers) of rows (B, T) of a text: (B, T), (B, T) and (B,), 0 if a row's second text follows.

    A row is cut after the last line that leaves half of it, or else in the middle. What stands before is the first
    text; as the second follows that half, or half a row from another place, by turns of a coin. All lengths are alike
    whatever the answer. A row alone is asked nothing: PAD.
    """
    size = min(text.size(1), spec.lengths.training - FRAME)  # of what is left of a row
    half = size // 2
    text, rows = text[:, :size], len(text)
    cuts = cut_places(text, size - half, spec)  # (B,)
    partner = (torch.arange(rows) + rows // 2) % rows
    elsewhere = (torch.rand(rows, generator=rng) < 0.5) & (partner != torch.arange(rows))
    partner = torch.where(elsewhere, partner, torch.arange(rows))
    place, cut = torch.arange(size + FRAME)[None], cuts[:, None]  # (1, T), (B, 1)
    second = place - cut - 2  # the place in the second text
    first = text.gather(1, (place - 1).clamp(0, size - 1).expand(rows, -1))
    other = text[partner[:, None], (cuts[partner, None] + second).clamp(0, size - 1)]
    tokens = torch.where(second < half, other, PAD)
    tokens = torch.where(place <= cut, first, tokens)
    tokens = torch.where((place == cut + 1) | (second == half), spec.vocab_size + SEP, tokens)
    tokens = torch.where(place == 0, spec.vocab_size + CLS, tokens)
    empty = (text[partner, cuts[partner]] == PAD) | (rows < 2)  # at the end of a text: no answer is right
    return tokens, (second >= 0).long(), torch.where(empty, PAD, elsewhere.long())


def cut_places(text: Tensor, last: int, spec: DataSpec) -> Tensor:
    """(B,) where the second text of each row (B, T) begins: at the last line that begins at `last` or before it."""
    distinct, inverse = torch.unique(text, return_inverse=True)
    ends = [0 <= id < len(spec.tokens) and spec.tokens[id].endswith(b"\n") for id in distinct.tolist()]
    after_line = torch.tensor(ends)[inverse][:, :last]  # (B, last) whether a line begins at the next place
    places = (after_line * torch.arange(1, last + 1)).amax(1)
    return torch.where(places > 0, places, last)
