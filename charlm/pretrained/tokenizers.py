"""Tokenizers of Hugging Face's library: GPT-2's kind is read; that and those of bytes and characters are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from charlm.errors import RunError, SettingsError, VocabularyError
from charlm.pretrained.foreign import read_json, read_optional, read_text
from charlm.text.byte_bpe import ByteBPE
from charlm.text.printed import PRINTED
from charlm.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

PADDING = 1024  # ids of a model without a token, at most: its vocabulary may be rounded up
END = "<|endoftext|>"
BYTE_LEVEL: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
EXPECTED = {  # in tokenizer.json, each with the values that mean the same
    ("model", "type"): (None, "BPE"),
    ("model", "continuing_subword_prefix"): (None, ""),
    ("model", "end_of_word_suffix"): (None, ""),
    ("model", "byte_fallback"): (None, False),
    ("model", "ignore_merges"): (None, False),
    ("normalizer",): (None,),
    ("pre_tokenizer", "type"): ("ByteLevel",),
    ("pre_tokenizer", "add_prefix_space"): (False,),
    ("pre_tokenizer", "use_regex"): (None, True),
}


def read(folder: Path, size: int) -> ByteBPE:
    """The tokenizer in a folder, for a model with `size` ids; those without a token get a name that no text encodes to.

    Raises `RunError` if there is none of GPT-2's kind, or if it is not that of the model.
    """
    described = read_optional(folder / "tokenizer.json")
    if described:
        vocab, merges = from_json(folder / "tokenizer.json", described)
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocab, merges = from_files(folder)
    else:
        raise RunError(f"{folder} has no tokenizer that charlm reads: vocab.json and merges.txt, or tokenizer.json")
    special = special_tokens(folder, described, {*PRINTED.values(), *(f"{left}{right}" for left, right in merges)})
    count = len(vocab | special)
    if not size - PADDING <= count <= size:
        beyond = [text for text, id in special.items() if id >= size]
        if 0 < count - size == len(beyond):
            cause = (
                f"{', '.join(map(repr, beyond[:3]))} was added without resizing the model; take it out of the "
                "tokenizer's files, or call model.resize_token_embeddings"
            )
        else:
            cause = "they are not of one model"
        raise RunError(f"the tokenizer in {folder} has {count:,} tokens and the model {size:,}: {cause}")
    try:
        taken = {*vocab.values(), *special.values()}
        unused = {f"<|unused{id}|>": id for id in range(size) if id not in taken}
        return ByteBPE.from_gpt2(vocab | unused, merges, special)
    except (VocabularyError, TypeError) as error:
        raise RunError(f"the tokenizer in {folder} is none of GPT-2's kind: {error}") from None


def special_tokens(folder: Path, described: Mapping[str, Any], ordinary: Set[str]) -> dict[str, int]:
    """Ids, by their text, of the tokens that were added to a vocabulary, whose other tokens are `ordinary`.

    Raises `RunError` for one that is more than special: transformers finds it in a text before anything is merged.
    """
    settings = read_optional(folder / "tokenizer_config.json")
    if settings.get("add_prefix_space"):
        raise RunError(f"{folder / 'tokenizer_config.json'} has add_prefix_space, which GPT-2's tokenizer has not")
    try:
        added = added_tokens(folder, settings, described)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"the added tokens of the tokenizer in {folder} cannot be read: {error!r}") from None
    for text, (_, special) in added.items():
        if not special or text in ordinary:
            raise RunError(
                f"the tokenizer in {folder} takes the added token {text[:40]!r} out of a text before it merges "
                f"anything, which charlm does not; of added tokens it reads special ones alone, such as {END}"
            )
    return {text: id for text, (id, _) in added.items()}


def added_tokens(
    folder: Path, settings: Mapping[str, Any], described: Mapping[str, Any]
) -> dict[str, tuple[int, bool]]:
    """(id, whether it is special) by text, of all files that may say so; the last one in which it stands is right."""
    named = {**read_optional(folder / "special_tokens_map.json"), **settings}
    extra = named.get("extra_special_tokens") or ()
    several = [
        *(value for name, value in named.items() if name.endswith("_token")),
        *(named.get("additional_special_tokens") or ()),
        *(extra.values() if isinstance(extra, dict) else extra),
    ]
    special = {value["content"] if isinstance(value, dict) else value for value in several}
    oldest = read_optional(folder / "added_tokens.json").items()
    tokens = [{"content": text, "id": id} for text, id in oldest]
    tokens += [token | {"id": id} for id, token in (settings.get("added_tokens_decoder") or {}).items()]
    tokens += described.get("added_tokens") or ()
    return {
        str(token["content"]): (int(token["id"]), token.get("special") is True or token["content"] in special)
        for token in tokens
    }


def from_json(path: Path, value: Mapping[str, Any]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(ids by token, merges) of what a tokenizer.json says."""
    for place, allowed in EXPECTED.items():
        part: Any = value
        for name in place:
            part = part.get(name) if isinstance(part, dict) else None
        if part not in allowed:
            raise RunError(
                f"{path} is a tokenizer of another kind than GPT-2's: its {' '.join(place)} is {part!r} and "
                f"would have to be {allowed[-1]!r}"
            )
    try:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in value["model"]["merges"]]
        return dict(value["model"]["vocab"]), [(left, right) for left, right in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error!r}") from None


def from_files(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The same from vocab.json and merges.txt."""
    lines = read_text(folder / "merges.txt").replace("\r\n", "\n").split("\n")
    try:
        pairs = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
        return read_json(folder / "vocab.json"), [(left, right) for left, right in pairs]
    except ValueError as error:
        raise RunError(f"{folder / 'merges.txt'} cannot be read: {error}") from None


def files(tokenizer: Tokenizer, window: int) -> dict[str, Any]:
    """The files that `AutoTokenizer` opens, by name. Raises `SettingsError` for a tokenizer that it has no equal of."""
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
        vocab = {character: byte for byte, character in PRINTED.items()}
        described, own = description(vocab, [], BYTE_LEVEL | {"use_regex": False}, BYTE_LEVEL), {}
    elif isinstance(tokenizer, CharTokenizer):
        described, own = of_characters(tokenizer), {}
    else:
        raise SettingsError(
            f"--tokenizer {tokenizer.kind} has no equal in Hugging Face's library; bytebpe, byte and char have"
        )
    return {"tokenizer.json": described, "tokenizer_config.json": settings, **own}


def end_id(tokenizer: Tokenizer) -> int | None:
    """The id of the token that ends a text; None if there is none."""
    return tokenizer.special.get(END) if isinstance(tokenizer, ByteBPE) else None


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
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, "content": text, **flags} for text, id in special.items()],
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
