"""From logits to a choice. The filters are pure functions, always applied in this order:

1. repetition penalty   Keskar et al. 2019, arXiv:1909.05858, section 4.1
2. temperature          0 ends here: the most likely token is taken
3. top-k                Fan, Lewis & Dauphin 2018, arXiv:1805.04833, section 5
4. top-p                Holtzman et al. 2020, arXiv:1904.09751, section 3.1
5. min-p                Nguyen et al. 2024, arXiv:2407.01082, section 3

Each of 3 to 5 looks at the distribution that the ones before it left, and always leaves at least one token. Of equally
likely tokens the one with the lower id comes first, wherever only some of them can stay or be taken. What is picked is
refused if it would copy too much (`novel.py`), and picked again without it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from charlm.sampling.noise import STEP, branch, gumbel
from charlm.sampling.novel import Copies
from charlm.sampling.settings import MEMORY, SampleSettings

NOISE = {"cuda": 1 << 22}  # numbers that are made at once, roughly; elsewhere what a cache holds, 1 << 16


def penalise(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """logits (B, V) with the tokens in recent (B, R) made less likely.

    The paper divides every one of them, which makes negative ones likelier; here, as is usual now, those are
    multiplied.
    """
    seen = logits.gather(1, recent)
    return logits.scatter(1, recent, torch.where(seen > 0, seen / penalty, seen * penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Exactly the k largest stay."""
    if k >= logits.size(1):
        return logits
    values = logits.topk(k).values  # which of equal ones it takes is left open
    least = values[:, -1:]
    equal, room = logits == least, (values == least).sum(1, keepdim=True)
    return logits.masked_fill((logits < least) | (equal & (equal.cumsum(1) > room)), -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The smallest set of likeliest tokens whose probabilities sum to p or more stays."""
    values, places = logits.sort(descending=True, stable=True)
    share = values.softmax(-1)
    before = share.cumsum(-1) - share
    values = values.masked_fill((before >= p) & (before > 0), -torch.inf)  # the first is never dropped
    return torch.empty_like(logits).scatter(1, places, values)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Tokens at least p times as likely as the likeliest stay."""
    share = logits.softmax(-1)
    return logits.masked_fill(share < p * share.amax(-1, keepdim=True), -torch.inf)


def stages(
    s: SampleSettings, temperature: float, logits: Tensor, recent: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """The logits (B, V) as the model gave them, and after each filter that is on, with its name."""
    yield "model", logits
    if recent is not None and s.repetition_penalty != 1:
        logits = penalise(logits, recent, s.repetition_penalty)
        yield f"repetition penalty {s.repetition_penalty:g}", logits
    if temperature == 0:
        yield "temperature 0", keep_top_k(logits, 1)
        return
    if temperature != 1:
        logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # so that a tiny one cannot overflow
        yield f"temperature {temperature:g}", logits
    if s.top_k:
        logits = keep_top_k(logits, s.top_k)
        yield f"top-k {s.top_k}", logits
    if s.top_p < 1:
        logits = keep_top_p(logits, s.top_p)
        yield f"top-p {s.top_p:g}", logits
    if s.min_p:
        logits = keep_min_p(logits, s.min_p)
        yield f"min-p {s.min_p:g}", logits


class Picker:
    """Picks a token per row, remembering what the filters need to know of the text so far.

    Each row draws from a stream of its own, so that what it draws does not depend on its company. The noise of many
    tokens is made at once.
    """

    def __init__(
        self,
        settings: SampleSettings,
        streams: Tensor,
        prompt: Tensor | None = None,
        copies: Copies | None = None,
    ) -> None:
        """`streams` (B,) are the rows' chance (`noise.streams`), `prompt` (B, P) is what the repetition penalty looks
        back on, and `copies` says which tokens are refused."""
        self.settings, self.streams, self.copies = settings, streams, copies
        self.temperatures = settings.temperatures
        self.filters = bool(settings.top_k or settings.top_p < 1 or settings.min_p)
        self.count = self.drawn = 0  # tokens that were picked, and those whose noise was made
        self.noise: list[Tensor] = []  # (B, V) each, for the tokens to come, the next one last
        self.recent = None if prompt is None else prompt[:, -MEMORY:]  # (B, R)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> ids (B,)."""
        logits = logits.float()
        noise = self.gumbel(logits) if self.temperature else None
        ids = self.best(logits, noise)
        if self.copies:
            ids = self.uncopied(logits, noise, ids, self.copies)
        self.count += 1
        if self.settings.repetition_penalty != 1:
            new = ids[:, None]
            self.recent = new if self.recent is None else torch.cat([self.recent, new], 1)[:, -MEMORY:]
        return ids

    def best(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """The ids (B,) that are largest after filters and noise."""
        if noise is None:
            return self.penalised(logits).argmax(-1)  # the first of the largest
        if self.filters:
            return (self.filtered(logits) + noise).argmax(-1)
        return self.penalised(logits).add(noise, alpha=self.temperature).argmax(-1)  # the same without dividing

    def uncopied(self, logits: Tensor, noise: Tensor | None, ids: Tensor, copies: Copies) -> Tensor:
        """`ids` (B,), or the next best where they are refused; where all are, the first choice after all."""
        logits, first = logits.clone(), ids
        for _ in range(logits.size(1)):
            refused = [row for row, id in enumerate(ids.tolist()) if copies.refuses(row, id)]
            if not refused:
                break
            logits[refused, ids[refused]] = -torch.inf
            ids = self.best(logits, noise)
        ids = torch.where(logits.isneginf().all(-1), first, ids)
        copies.took(ids.tolist())
        return ids

    @property
    def temperature(self) -> float:
        return self.temperatures[self.count % len(self.temperatures)]

    def gumbel(self, logits: Tensor) -> Tensor:
        """Noise (B, V) for one token."""
        if not self.noise:
            tokens = max(1, min(512, NOISE.get(logits.device.type, 1 << 16) // logits.numel()))
            places = torch.arange(self.drawn + tokens, self.drawn, -1, device=logits.device)
            keys = torch.arange(logits.size(1), device=logits.device) * STEP
            self.noise = list(gumbel(branch(self.streams, places[:, None]), keys))
            self.drawn += tokens
        return self.noise.pop()

    def penalised(self, logits: Tensor) -> Tensor:
        if self.recent is None or self.settings.repetition_penalty == 1:
            return logits
        return penalise(logits, self.recent, self.settings.repetition_penalty)

    def filtered(self, logits: Tensor) -> Tensor:
        """logits (B, V) after every filter that is on; what is ruled out is -inf."""
        for _, left in stages(self.settings, self.temperature, logits, self.recent):
            logits = left
        return logits
