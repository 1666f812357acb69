"""Tell which tokens of a text were replaced, by a smaller network that guesses hidden ones: ELECTRA.

Clark et al. 2020, arXiv:2003.10555. A generator guesses hidden tokens, as of `masked`, and in their places stand tokens
that are drawn by its guesses. Of every token a discriminator says whether it is still the one that stood there (section
2): one that was guessed right is. Both learn together, the generator from its guesses alone, and

    loss = generator's nats per hidden token + 50 x discriminator's nats per token

They share their embedding, and the generator is narrower (section 3.2; `_detector.py`). Afterwards the discriminator is
what other trainings start from, and the generator fills gaps.

Where we differ: of the tokens that the generator guesses 80 % are hidden by a symbol, 10 % changed and 10 % left, as in
`masked`; in the paper all are hidden, and in the authors' code 85 %. Dropout falls on what the generator's layers get,
behind the layer that makes it narrower.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.config import Arg, DataSpec
from charlm.evaluate import rows_at_once
from charlm.model import PAD, Encoder, Network, State
from charlm.objectives._base import Arrays, Batch, Loss, summed_nats, windows
from charlm.objectives._detector import Detector, narrower
from charlm.objectives._hiding import Hiding, hide, single
from charlm.progress import Progress
from charlm.score import Measure, Score


@dataclass(frozen=True)
class Replaced(Hiding):
    generator_width: Annotated[
        float, Arg("width of the network that replaces tokens, as a share of the other's", min=0.01, max=1)
    ] = 0.25
    detection_weight: Annotated[
        float, Arg("weight of telling what was replaced, beside guessing what is hidden", min=0, max=1e6)
    ] = 50.0

    measure: ClassVar[Measure] = Measure("nats_per_judged_token", "nats/judged token", across=False)

    def equip(self, body: Network) -> Network:
        assert isinstance(body, Encoder)
        return Detector(body, type(body)(narrower(body.config, self.generator_width), body.spec))

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:
        (windows,) = rows
        return Batch(*self.hide(windows[:, :-1], spec, rng))  # the last token is the first of the next window

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        """The nats are the discriminator's per token, for each hidden one; what else is minimised is the penalty."""
        guesses, text, odds = network(batch.tokens, batch.targets)
        real, hidden = batch.tokens != PAD, batch.targets != PAD
        true = torch.where(hidden, batch.targets, batch.tokens)
        nats = judged_nats(odds, text != true).masked_fill(~real, 0.0)
        telling = hidden.sum() * nats.sum() / real.sum().clamp(min=1)
        guessing = summed_nats(guesses, batch.targets)
        return Loss(telling, state, guessing + (self.detection_weight - 1) * telling)

    def guesses(self, network: Any, tokens: Tensor) -> Tensor:
        """The generator's."""
        logits: Tensor = network.generator(tokens)
        return logits

    @torch.inference_mode()
    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """The discriminator's nats per token of a text in which tokens from elsewhere in it stand in hidden places.

        Both are a function of the text's ids alone, so that runs compare, and scores do not become worse as a generator
        improves. Figures: the share of right answers, F1 of those that were replaced (0 for who says that none was),
        and what the generator's guesses at the hidden tokens cost, the same ones as in the score of `masked`.
        """
        network.eval()
        spec, rng, device = network.spec, torch.Generator().manual_seed(0), next(network.parameters()).device
        ids, length = torch.from_numpy(part.ids.astype("int64"))[None], self.at_once(network.spec)  # (1, N)
        hidden = hide(ids, single(ids), spec, rng)
        others = ids[:, torch.randint(max(1, ids.size(1)), (ids.size(1),), generator=rng)]
        text = torch.where(hidden.targets == PAD, ids, others)
        at_once = rows_at_once(length, spec.vocab_size)
        pieces = zip(*(torch.split(windows(t, length), at_once) for t in (*hidden, text, ids)), strict=True)
        guessing, telling, done, counts = 0.0, 0.0, 0, torch.zeros(4, dtype=torch.long)
        for fed, targets, given, true in pieces:
            guessing += float(summed_nats(self.guesses(network, fed.to(device)), targets.to(device)))
            real = given != PAD
            odds, changed = network.odds(given.to(device)).float().cpu()[real], (given != true)[real]  # (tokens,)
            telling += float(judged_nats(odds, changed).sum())
            counts += torch.bincount(2 * changed + (odds > 0), minlength=4)
            done += len(odds)
            yield Progress("scoring", done, ids.size(1))
        kept, wrong, missed, caught = counts.tolist()
        figures = {
            "accuracy": (kept + caught) / max(done, 1),
            "f1": 2 * caught / max(2 * caught + wrong + missed, 1),
            "generator_nats_per_masked_token": guessing / max(int((hidden.targets != PAD).sum()), 1),
        }
        mean = telling / max(done, 1)
        return Score(mean, mean, done, part.chars, part.bytes, length, self.measure, figures)


def judged_nats(odds: Tensor, changed: Tensor) -> Tensor:
    """The nats of log-odds that tokens were replaced, each where it is `changed` or not, in any shape."""
    return F.binary_cross_entropy_with_logits(odds.float(), changed.float(), reduction="none")
