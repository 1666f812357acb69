"""GPT-2 (Radford et al. 2019), whose block has the norms before each sublayer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charlm.pretrained.families._base import Match
from charlm.pretrained.families._gpt import BLOCK, GPT


class GPT2(GPT):
    model = "GPT2LMHeadModel"
    matches = (Match("embed", ("wte",)), Match("positions.embed", ("wpe",)), *BLOCK, Match("norm", ("ln_f",)))
    copies = {"lm_head.weight": "wte.weight"}
    ours = GPT.ours | {"norm_place": "pre"}

    @classmethod
    def theirs(cls, options: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        width = options.get("n_embd")
        return {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "n_inner": (None, 4 * width if isinstance(width, int) else None),
            "layer_norm_epsilon": (1e-5,),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False,),
            "add_cross_attention": (False,),
            "tie_word_embeddings": (True,),
        }
