"""GPT, later called GPT-1 (Radford et al. 2018): the norms stand after the residual sums, and none at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charlm.pretrained.families._base import Match
from charlm.pretrained.families._gpt import BLOCK, GPT


class OpenAIGPT(GPT):
    model = "OpenAIGPTLMHeadModel"
    matches = (Match("embed", ("tokens_embed",)), Match("positions.embed", ("positions_embed",)), *BLOCK)
    copies = {"lm_head.weight": "tokens_embed.weight"}
    ours = GPT.ours | {"norm_place": "post"}

    @classmethod
    def theirs(cls, options: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:  # noqa: ARG003
        return {"afn": ("gelu", "gelu_new"), "layer_norm_epsilon": (1e-5,), "tie_word_embeddings": (True,)}
