"""BERT (Devlin et al. 2018, arXiv:1810.04805), with a head for hidden tokens, and perhaps one for next sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charlm.model import Network
from charlm.objectives.masked import Masked
from charlm.plan import Plan
from charlm.pretrained.families._base import Family, Match

LAYER = "encoder.layer.*."
SELF = f"{LAYER}attention.self."
WITH_BOTH = "BertForPreTraining"


class Bert(Family):
    model = "BertForMaskedLM"
    arch = "bert"
    prefix = "bert."
    heads = ("cls.",)
    symbols = ("[MASK]", "[CLS]", "[SEP]")
    matches = (
        Match("embed", ("embeddings.word_embeddings",)),
        Match("positions.embed", ("embeddings.position_embeddings",)),
        Match("segments", ("embeddings.token_type_embeddings",)),
        Match("embed_norm", ("embeddings.LayerNorm",)),
        Match("blocks.*.attention.qkv", (f"{SELF}query", f"{SELF}key", f"{SELF}value")),
        Match("blocks.*.attention.out", (f"{LAYER}attention.output.dense",)),
        Match("blocks.*.norm1", (f"{LAYER}attention.output.LayerNorm",)),
        Match("blocks.*.feed_forward.up", (f"{LAYER}intermediate.dense",)),
        Match("blocks.*.feed_forward.out", (f"{LAYER}output.dense",)),
        Match("blocks.*.norm3", (f"{LAYER}output.LayerNorm",)),
        Match("head.dense", ("cls.predictions.transform.dense",)),
        Match("head.norm", ("cls.predictions.transform.LayerNorm",)),
        Match("head.guess", ("cls.predictions",), symbols=Masked.symbols),  # its bias; the weights are the embedding's
        Match("judge.pooler", ("pooler.dense",)),
        Match("judge.answer", ("cls.seq_relationship",)),
    )
    copies = {
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    buffers = ("position_ids",)
    options = {
        "layers": ("num_hidden_layers",),
        "hidden_size": ("hidden_size",),
        "heads": ("num_attention_heads",),
        "seq_len": ("max_position_embeddings",),
        "dropout": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    }
    harmless = ("classifier_dropout",)
    ours = {"positions": "learned", "norm_place": "post", "pattern": "dense"}
    free = ("init",)
    lr = 1e-4

    @classmethod
    def theirs(cls, options: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        width = options.get("hidden_size")
        return {
            "hidden_act": ("gelu",),
            "intermediate_size": (4 * width if isinstance(width, int) else None,),
            "layer_norm_eps": (1e-12,),
            "type_vocab_size": (2,),
            "position_embedding_type": ("absolute",),
            "add_cross_attention": (False,),
            "tie_word_embeddings": (True,),
        }

    @classmethod
    def sizes(cls, network: Any) -> dict[str, Any]:
        return {"heads": network.config.block.head_count, "seq_len": network.spec.lengths.window}

    @classmethod
    def settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        both = WITH_BOTH in (config.get("architectures") or ())
        return super().settings(config) | {"objective": "masked", "next_sentence": both}

    @classmethod
    def config(cls, plan: Plan, network: Network) -> tuple[dict[str, Any], list[str]]:
        values, problems = super().config(plan, network)
        if plan.arch == cls.arch and not isinstance(plan.objective, Masked):
            problems.append(f"--objective is {plan.objective.name()} and would have to be masked")
        return values | ({"architectures": [WITH_BOTH]} if network.spec.answers else {}), problems
