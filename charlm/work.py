"""How much a network computes."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from charlm.model import EncoderDecoder, LanguageModel, Network, TokenVectors


def multiply_adds(outline: Network) -> int:
    """Multiply-adds per token, forward: those of all matrix products that are computed, of attention over a row too.

    A training step has three times as many; four times where the backward pass computes again (`reformer`). Patterns
    are cheaper than dense attention from rows of some 500 tokens on, and experts count the places of their capacity
    that stay empty. Counted on a row of training and, for an encoder-decoder, per token of source and target; of
    vectors of tokens per pair, for they are used in pairs alone; of what guesses in any order without a stream for the
    guesses, which is a sixth more in training. `outline` is on the meta device (`Plan.outline`), where nothing is
    computed.
    """
    lengths = outline.spec.lengths
    if isinstance(outline, EncoderDecoder):
        sizes = [lengths.source, lengths.target]
    elif isinstance(outline, LanguageModel) and outline.window is None:
        sizes = [1]  # each token is as much work as the first
    else:
        sizes = [lengths.training]
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        *source, tokens = (torch.zeros(1, size, dtype=torch.long) for size in sizes)
        others = {"others": tokens[..., None]} if isinstance(outline, TokenVectors) else {}
        outline(tokens, source=source[0]) if source else outline(tokens, **others)
    return round(int(counter.get_total_flops()) / (2 * sum(sizes)))
