"""Tokenizers of ours, described to Hugging Face's library: those of GPT-2's kind, of bytes and of characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charlm.errors import SettingsError
from charlm.text.byte_bpe import ByteBPE
from charlm.text.printed import PRINTED
from charlm.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

END = "<|endoftext|>"
BYTE_LEVEL: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def files(tokenizer: Tokenizer, window: int, symbols: Mapping[str, int] = {}) -> dict[str, Any]:
    """The files that `AutoTokenizer` opens, by name; `symbols` are further ids by their text.

    Raises `SettingsError` for a tokenizer that it has no equal of.
    """
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": window,
    }
    if isinstance(tokenizer, ByteBPE):
        vocab, merges = tokenizer.to_gpt2()
        special = tokenizer.special
        if END in special:
            settings |= {"bos_token": END, "eos_token": END}
        described = description(vocab, merges, BYTE_LEVEL, BYTE_LEVEL, special)
        rules = "".join(f"{left} {right}\n" for left, right in merges)
        own = {"vocab.json": vocab, "merges.txt": f"#version: 0.2\n{rules}"}
    elif isinstance(tokenizer, ByteTokenizer):
        described, own = of_bytes(), {}
    elif isinstance(tokenizer, CharTokenizer):
        described, own = of_characters(tokenizer), {}
    else:
        raise SettingsError(
            f"--tokenizer {tokenizer.kind} has no equal in Hugging Face's library; bytebpe, byte and char have"
        )
    described["added_tokens"] += [added_token(text, id) for text, id in symbols.items()]
    settings |= {f"{text.strip('[]').lower()}_token": text for text in symbols}  # mask_token, cls_token, sep_token
    return {"tokenizer.json": described, "tokenizer_config.json": settings, **own}


def end_id(tokenizer: Tokenizer) -> int | None:
    """The id of the token that ends a text; None if there is none."""
    return tokenizer.special.get(END) if isinstance(tokenizer, ByteBPE) else None


def of_bytes() -> dict[str, Any]:
    vocab = {character: byte for byte, character in PRINTED.items()}
    return description(vocab, [], BYTE_LEVEL | {"use_regex": False}, BYTE_LEVEL)


def of_characters(tokenizer: CharTokenizer) -> dict[str, Any]:
    """Characters are what byte pair encoding without pairs leaves. Bytes alone are called <0xC3> and the like."""
    try:
        names = [f"<0x{t[0]:02X}>" if len(t) == 1 and t[0] >= 0x80 else t.decode("utf-8") for t in tokenizer.tokens]
    except UnicodeDecodeError:
        raise SettingsError(
            "the alphabet has a lone surrogate, which no tokenizer of Hugging Face's library can hold"
        ) from None
    spell = tokenizer.to_json()["spell"]
    joined = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    decoder = {"type": "Sequence", "decoders": joined} if spell else joined[-1]
    return description({name: id for id, name in enumerate(names)}, [], None, decoder, spell=spell)


def added_token(text: str, id: int) -> dict[str, Any]:
    """As tokenizer.json has it: a special one, which is taken out of a text before anything is merged."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": id, "content": text, **flags}


def description(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    pre_tokenizer: dict[str, Any] | None,
    decoder: dict[str, Any],
    special: Mapping[str, int] = {},
    *,
    spell: bool = False,
) -> dict[str, Any]:
    """A tokenizer.json of byte pair encoding; `spell`: what the vocabulary lacks becomes bytes."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(text, id) for text, id in special.items()],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": spell,
            "ignore_merges": False,
            "vocab": dict(vocab),
            "merges": [list(pair) for pair in merges],
        },
    }
