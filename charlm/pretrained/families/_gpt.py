"""What GPT and GPT-2 share: their blocks, and nearly all options."""

from __future__ import annotations

from typing import Any

from charlm.pretrained.families._base import Family, Match

BLOCK = (
    Match("blocks.*.norm1", ("h.*.ln_1",)),
    Match("blocks.*.attention.qkv", ("h.*.attn.c_attn",), transposed=True),
    Match("blocks.*.attention.out", ("h.*.attn.c_proj",), transposed=True),
    Match("blocks.*.norm3", ("h.*.ln_2",)),
    Match("blocks.*.feed_forward.up", ("h.*.mlp.c_fc",), transposed=True),
    Match("blocks.*.feed_forward.out", ("h.*.mlp.c_proj",), transposed=True),
)


class GPT(Family):
    prefix = "transformer."
    buffers = (".attn.bias", ".attn.masked_bias", "position_ids")  # causal masks, numbers of places
    options = {
        "layers": ("n_layer",),
        "hidden_size": ("n_embd",),
        "heads": ("n_head",),
        "seq_len": ("n_positions", "n_ctx"),
        "dropout": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    }
    harmless = ("summary_*", "n_special", "predict_special_tokens")
    ours = {
        "positions": "learned",
        "norm": "layer",
        "activation": "gelu",
        "qk_norm": False,
        "bias": True,
        "tied": True,
        "init": "published",
        "ngram": 1,
        "pattern": "dense",
        "embedding_size": None,
        "share_layers": False,
        "experts": None,
    }
    lr = 2.5e-4  # GPT's (Radford et al. 2018, section 4.1); of GPT-2 none was published

    @classmethod
    def sizes(cls, network: Any) -> dict[str, Any]:
        window = network.spec.lengths.window
        return {"ngram": network.ngram, "heads": network.config.head_count, "seq_len": window}
