"""From logits to a choice. The filters are pure functions, always applied in this order:

1. repetition penalty   Keskar et al. 2019, arXiv:1909.05858, section 4.1
2. temperature          0 ends here: the most likely token is taken
3. top-k                Fan, Lewis & Dauphin 2018, arXiv:1805.04833, section 5
4. top-p                Holtzman et al. 2020, arXiv:1904.09751, section 3.1
5. min-p                Nguyen et al. 2024, arXiv:2407.01082, section 3

Each of 3 to 5 looks at the distribution that the ones before it left, and always leaves at least one token.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from charlm.sampling.settings import MEMORY, SampleSettings


def penalise(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """logits (B, V) with the tokens in recent (B, R) made less likely."""
    seen = logits.gather(1, recent)
    return logits.scatter(1, recent, torch.where(seen > 0, seen / penalty, seen * penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Exactly the k largest stay, ties cut by token id."""
    if k >= logits.size(1):
        return logits
    values, places = logits.topk(k)
    return torch.full_like(logits, -torch.inf).scatter(1, places, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest tokens whose probabilities sum to p or more stays."""
    values, places = logits.sort(descending=True)
    share = values.softmax(-1)
    before = share.cumsum(-1) - share
    values = values.masked_fill((before >= p) & (before > 0), -torch.inf)  # the first is never dropped
    return torch.empty_like(logits).scatter(1, places, values)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Tokens at least p times as likely as the likeliest stay."""
    share = logits.softmax(-1)
    return logits.masked_fill(share < p * share.amax(-1, keepdim=True), -torch.inf)


class Picker:
    """Picks a token per row, remembering what the filters need to know of the text so far."""

    def __init__(self, settings: SampleSettings, generator: Generator, prompt: Tensor | None = None) -> None:
        self.settings, self.generator = settings, generator
        self.count = 0
        self.recent = None if prompt is None else prompt[:, -MEMORY:]  # (B, R)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> ids (B,)."""
        logits = self.filtered(logits.float())
        if self.temperature == 0:
            ids = logits.argmax(-1)
        else:
            ids = torch.multinomial(logits.softmax(-1), 1, generator=self.generator).squeeze(1)
        self.count += 1
        if self.settings.repetition_penalty != 1:
            new = ids[:, None]
            self.recent = new if self.recent is None else torch.cat([self.recent, new], 1)[:, -MEMORY:]
        return ids

    @property
    def temperature(self) -> float:
        cycle = self.settings.temperatures
        return cycle[self.count % len(cycle)]

    def filtered(self, logits: Tensor) -> Tensor:
        """logits (B, V) after every filter that is on; what is ruled out is -inf."""
        s = self.settings
        if self.recent is not None and s.repetition_penalty != 1:
            logits = penalise(logits, self.recent, s.repetition_penalty)
        if self.temperature == 0:
            return logits
        logits = logits - logits.amax(-1, keepdim=True)  # so that a tiny temperature cannot overflow
        logits = logits / self.temperature
        if s.top_k:
            logits = keep_top_k(logits, s.top_k)
        if s.top_p < 1:
            logits = keep_top_p(logits, s.top_p)
        if s.min_p:
            logits = keep_min_p(logits, s.min_p)
        return logits
