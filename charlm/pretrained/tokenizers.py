"""Tokenizers of Hugging Face's library, read: those of GPT-2's kind, and of bytes and characters as we write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from charlm.errors import RunError, VocabularyError
from charlm.pretrained.described import END, of_bytes, of_characters
from charlm.pretrained.foreign import read_json, read_optional, read_text
from charlm.text.byte_bpe import ByteBPE
from charlm.text.printed import PRINTED
from charlm.text.tokenizers import BYTES, ByteTokenizer, CharTokenizer, Tokenizer

PADDING = 1024  # ids of a model without a token, at most: its vocabulary may be rounded up
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


def read(folder: Path, size: int, symbols: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer in a folder, for a model with `size` ids; those without a token get a name that no text encodes to.

    The last ids are those of `symbols`, which belong to what a network is trained for and are no part of the tokenizer.

    Raises `RunError` if there is none of GPT-2's kind, or of bytes or characters as `files` writes them, or if it is
    not that of the model.
    """
    described = read_optional(folder / "tokenizer.json")
    if symbols:
        described, size = without_symbols(folder, described, size, symbols)
    if (plain := of_units(described)) and plain.vocab_size == size:
        return plain
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


def without_symbols(
    folder: Path, described: dict[str, Any], size: int, symbols: Sequence[str]
) -> tuple[dict[str, Any], int]:
    """(a tokenizer.json without these tokens, the number of the other ids).

    Raises `RunError` for WordPiece, and if these do not stand at the end.
    """
    model = described.get("model")
    if (isinstance(model, dict) and model.get("type") == "WordPiece") or (folder / "vocab.txt").exists():
        raise RunError(
            f"the tokenizer in {folder} is WordPiece, which loses blanks, and often capitals and accents; those of "
            "charlm give back every text, so none of them has its ids, and the model's weights are of no use without"
        )
    added = [token for token in described.get("added_tokens") or [] if isinstance(token, dict)]
    ids = {token.get("content"): token.get("id") for token in added}
    first = size - len(symbols)
    if [ids.get(symbol) for symbol in symbols] != [*range(first, size)]:
        raise RunError(
            f"{folder / 'tokenizer.json'} must add {', '.join(symbols)} as the last of its {size:,} tokens, as "
            "charlm export writes them"
        )
    return described | {"added_tokens": [t for t in added if t.get("content") not in symbols]}, first


def of_units(described: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of bytes or characters whose description this is; None if there is none."""
    model = described.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocab, dict) or not all(type(id) is int for id in vocab.values()):
        return None
    tokenizer: Tokenizer = ByteTokenizer()
    said = of_bytes()
    if described.get("pre_tokenizer") is None:
        spell, names = model.get("byte_fallback") is True, sorted(vocab, key=vocab.__getitem__)
        own = [ord(name) for name in names[len(BYTES) if spell else 0 :] if len(name) == 1]
        tokenizer = made = CharTokenizer(own, spell)
        said = of_characters(made)
    same = all(said[part] == described.get(part) for part in ("pre_tokenizer", "normalizer"))
    return tokenizer if same and said["model"]["vocab"] == vocab and model.get("merges") == [] else None


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
