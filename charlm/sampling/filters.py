"""From logits to a token. The filters are pure functions, always applied in this order:

1. repetition penalty   Keskar et al. 2019, arXiv:1909.05858, section 4.1
2. temperature          0 ends here: the most likely token is taken
3. top-k                Fan, Lewis & Dauphin 2018, arXiv:1805.04833, section 5
4. top-p                Holtzman et al. 2020, arXiv:1904.09751, section 3.1
5. min-p                Nguyen et al. 2024, arXiv:2407.01082, section 3

Filters 3 to 5 work on the distribution that the filters before them leave, and always keep one token or more. Where
equally likely tokens compete, the lower ids are kept or picked. A token that would copy too much of the training text
(`novel.py`) is refused, and another one picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from charlm.sampling.noise import token_noise
from charlm.sampling.novel import Copies
from charlm.sampling.settings import MEMORY, SampleSettings

NOISE_SIZE = {"cuda": 1 << 22}  # about so many numbers are made at once; elsewhere 1 << 16, for a CPU's cache


def penalise(logits: Tensor, recent: Tensor, penalty: float) -> Tensor:
    """logits (B, V) with the tokens in recent (B, R) made less likely.

    The paper divides every such logit, which makes a token with a negative one likelier; those are multiplied here, as
    is usual now.
    """
    values = logits.gather(1, recent)
    return logits.scatter(1, recent, torch.where(values > 0, values / penalty, values * penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """logits (B, V) with all but the k largest at -inf."""
    if k >= logits.size(1):
        return logits
    values = logits.topk(k).values  # which of equal ones it returns is undefined
    least = values[:, -1:]
    equal, room = logits == least, (values == least).sum(1, keepdim=True)  # so many equal ones are kept
    return logits.masked_fill((logits < least) | (equal & (equal.cumsum(1) > room)), -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """logits (B, V) with all at -inf but the fewest tokens whose probabilities sum to p or more."""
    values, order = logits.sort(descending=True, stable=True)
    probabilities = values.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    values = values.masked_fill((before >= p) & (before > 0), -torch.inf)  # the first always stays
    return torch.empty_like(logits).scatter(1, order, values)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """logits (B, V) with all at -inf but the tokens at least p times as likely as the likeliest."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(-1, keepdim=True), -torch.inf)


def cooled(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """logits (B, V) divided by the temperature, the largest ones 0, so that a tiny one cannot overflow."""
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def narrowing(s: SampleSettings) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
    """(name, filter) of those that keep some of the tokens and are on."""
    filters: list[tuple[str, Callable[[Tensor], Tensor]]] = []
    if s.top_k:
        filters.append((f"top-k {s.top_k}", partial(keep_top_k, k=s.top_k)))
    if s.top_p < 1:
        filters.append((f"top-p {s.top_p:g}", partial(keep_top_p, p=s.top_p)))
    if s.min_p:
        filters.append((f"min-p {s.min_p:g}", partial(keep_min_p, p=s.min_p)))
    return filters


def filter_steps(
    s: SampleSettings, temperature: float, logits: Tensor, recent: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """(name, logits (B, V)) of every filter that is on, and before them "model" with the logits as given."""
    yield "model", logits
    if recent is not None and s.repetition_penalty != 1:
        logits = penalise(logits, recent, s.repetition_penalty)
        yield f"repetition penalty {s.repetition_penalty:g}", logits
    if temperature == 0:
        yield "temperature 0", keep_top_k(logits, 1)
        return
    if temperature != 1:
        logits = cooled(logits, temperature)
        yield f"temperature {temperature:g}", logits
    for name, keep in narrowing(s):
        logits = keep(logits)
        yield name, logits


def filtered(s: SampleSettings, temperature: float, logits: Tensor, recent: Tensor | None = None) -> Tensor:
    """logits (B, V) after every filter that is on; tokens that are ruled out have -inf."""
    *_, (_, logits) = filter_steps(s, temperature, logits, recent)
    return logits


def best(
    s: SampleSettings, temperature: float, logits: Tensor, noise: Tensor | None, recent: Tensor | None = None
) -> Tensor:
    """The ids (B,) of the largest logits (B, V) after filters and noise (B, V); `recent` (B, R) are penalised."""
    if noise is not None and temperature and narrowing(s):
        return (filtered(s, temperature, logits, recent) + noise).argmax(-1)
    if recent is not None and s.repetition_penalty != 1:
        logits = penalise(logits, recent, s.repetition_penalty)
    if noise is None or not temperature:
        return logits.argmax(-1)  # of equal ones the first
    return logits.add(noise, alpha=temperature).argmax(-1)  # as above, without the division


class Picker:
    """Picks the next token of each row, and keeps what the filters need to know of the text so far.

    Each row has a random stream of its own, so that what is sampled for it does not depend on the other rows. The noise
    for many tokens is made at once.
    """

    def __init__(
        self,
        settings: SampleSettings,
        streams: Tensor,
        prompt: Tensor | None = None,
        copies: Copies | None = None,
    ) -> None:
        """`streams` (B,) are the rows' random streams (`noise.streams`), `prompt` (B, P) is the text before, for the
        repetition penalty, and `copies` says which tokens are refused."""
        self.settings, self.streams, self.copies = settings, streams, copies
        self.temperatures = settings.temperatures
        self.drawn = any(self.temperatures)
        self.count = self.noised = 0  # tokens picked per row, and tokens whose noise was made
        self.noise: list[Tensor] = []  # (B, V) for every token whose noise is ready, the next token's last
        self.recent = None if prompt is None else prompt[:, -MEMORY:]  # (B, R)

    def __call__(self, logits: Tensor) -> Tensor:
        """logits (B, V) -> ids (B,)."""
        logits = logits.float()
        noise = self.gumbel(logits) if self.drawn else None  # a token's own, whatever the temperatures before it
        ids = self.best(logits, noise)
        if self.copies:
            ids = self.uncopied(logits, noise, ids, self.copies)
        self.count += 1
        if self.settings.repetition_penalty != 1:
            new = ids[:, None]
            self.recent = new if self.recent is None else torch.cat([self.recent, new], 1)[:, -MEMORY:]
        return ids

    def best(self, logits: Tensor, noise: Tensor | None) -> Tensor:
        """The ids (B,) of the largest logits after filters and noise."""
        return best(self.settings, self.temperature, logits, noise, self.recent)

    def uncopied(self, logits: Tensor, noise: Tensor | None, ids: Tensor, copies: Copies) -> Tensor:
        """`ids` (B,), or the next best in rows where one is refused; a row where all are refused keeps its id."""
        logits, first = logits.clone(), ids
        for _ in range(logits.size(1)):
            refused = [row for row, id in enumerate(ids.tolist()) if copies.refuses(row, id)]
            if not refused:
                break
            logits[refused, ids[refused]] = -torch.inf
            ids = self.best(logits, noise)
        ids = torch.where(logits.isneginf().all(-1), first, ids)
        copies.append(ids.tolist())
        return ids

    @property
    def on_host(self) -> bool:
        """Whether a choice needs the host, so that it cannot be recorded together with the steps (`unrolled.py`)."""
        return self.copies is not None

    @property
    def temperature(self) -> float:
        """That of the next token."""
        return self.temperatures[self.count % len(self.temperatures)]

    def gumbel(self, logits: Tensor) -> Tensor:
        """Noise (B, V) for one token."""
        if not self.noise:
            tokens = max(1, min(512, NOISE_SIZE.get(logits.device.type, 1 << 16) // logits.numel()))
            self.noise = list(token_noise(self.streams, self.noised + 1, tokens, logits.size(1)))[::-1]
            self.noised += tokens
        return self.noise.pop()
