"""GPT-2's tokenizer: its merges, ids and files are those of the `tokenizers` library."""

from __future__ import annotations

import json
import random
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from charlm.config import DataSettings
from charlm.errors import VocabularyError
from charlm.progress import Progress, result
from charlm.text.byte_bpe import ByteBPE
from charlm.text.tokenizers import BYTES, utf8
from charlm.text.vocabulary import train_tokenizer

PLAY = (Path(__file__).parents[2] / "corpora" / "saltmere.txt").read_text(encoding="utf-8")
SIZE = 1000
ODD = [
    *("'s", "'ll", "'", "''", " ", "  ", "\t", "\r\n", "\n\n", "\n", "\x0b", "\x85", "\xa0", "\u2028", "\u200b"),
    *("\0", "\x1c", "\x7f", "_", "…", "—", "½", "²", "Ⅷ", "٣", "१", "𝟗", "é", "e\u0301", "ǆ", "ß", "ﬁ", "ʰ", "ª"),
    *("हिन्दी", "עִבְרִית", "العربية", "ไทย", "日本語", "한국어", "Ελληνικά", "ქართული", "🙂", "👩‍👧", "🏳️‍🌈", "🇩🇪", "❤️"),
    *("<|endoftext|>", "Ġthe", "Ċ", "▁", "\ufeff", "\ufffd", "\U0010fffd", "aaaaaaa", "ha" * 50),
]
WORDS = PLAY.split(" ")
KNOWN = [  # to this Python: Latin letters, other alphabets, other scripts
    [c for c in map(chr, range(0x20, end)) if unicodedata.category(c) != "Cn"] for end in (0x100, 0x800, 0xD800)
]


@cache
def ours(size: int = SIZE) -> ByteBPE:
    made = result(train_tokenizer(DataSettings(tokenizer="bytebpe", vocab_size=size), lambda: iter([PLAY])))
    assert isinstance(made, ByteBPE)
    return made


@cache
def reference(size: int = SIZE) -> tokenizers.Tokenizer:
    """The same trained by the library, on the same text."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    made.train_from_iterator([PLAY], trainer)
    return made


def odd_text(number: int) -> str:
    """A text of strange pieces, ordinary words and any characters."""
    rng = random.Random(number)
    return "".join(rng.choice(rng.choice([ODD, WORDS, rng.choice(KNOWN)])) for _ in range(rng.randrange(12)))


def test_merges_are_those_of_the_library_ties_included() -> None:
    model = json.loads(reference(4096).to_str())["model"]
    vocab, merges = ours(4096).to_gpt2()
    assert merges == [tuple(pair) for pair in model["merges"]]
    assert vocab == model["vocab"]


def test_ten_thousand_odd_texts_have_the_ids_that_the_library_gives_them() -> None:
    texts = [odd_text(number) for number in range(10_000)]
    for text, expected in zip(texts, reference().encode_batch(texts), strict=True):
        assert ours().encode(text).tolist() == expected.ids, text


@given(st.lists(st.integers(0, 999)))
def test_any_ids_are_decoded_as_the_library_does(ids: list[int]) -> None:
    assert b"".join(ours().tokens[id] for id in ids).decode("utf-8", "replace") == reference().decode(ids)


@given(st.lists(st.integers(0, 255)), st.randoms(use_true_random=False))
def test_a_text_is_merged_as_the_definition_says_whatever_the_merges(parts: list[int], rng: random.Random) -> None:
    """Merges that no training would have learnt, in any order: the lowest rank first, of equal ones the leftmost."""
    tokens, merges = [chr(byte) for byte in range(97, 101)], []
    vocab, _ = ours(300).to_gpt2()
    vocab = {token: vocab[token] for token in list(vocab)[:256]}
    for _ in range(20):
        pair = rng.choice(tokens), rng.choice(tokens)
        if "".join(pair) not in vocab:
            vocab["".join(pair)] = len(vocab)
            tokens.append("".join(pair))
            merges.append(pair)
    rng.shuffle(merges)
    text = "".join("abcd"[part % 4] for part in parts)
    cut = list(text)
    while ranks := [merges.index(pair) for pair in pairwise(cut) if pair in merges]:
        at = next(at for at in range(len(cut)) if (cut[at], cut[at + 1]) == merges[min(ranks)])
        cut[at : at + 2] = [cut[at] + cut[at + 1]]
    assert ByteBPE.from_gpt2(vocab, merges).encode(text).tolist() == [vocab[token] for token in cut]


def test_long_words_are_encoded_too() -> None:
    text = "".join(random.Random(0).choices("acgt", k=20_000)) + "a" * 20_000
    assert ours().encode(text).tolist() == reference().encode(text).ids


def test_gpt_2s_files_are_read_and_written_again_with_special_tokens_that_no_text_holds() -> None:
    vocab, merges = ours().to_gpt2()
    assert list(vocab)[:3] == ["!", '"', "#"]  # as in GPT-2, where a newline is 198
    assert vocab["Ċ"] == ours().start == ours().newline == 198
    vocab |= {"<|endoftext|>": SIZE, "<| a b |>": SIZE + 1}
    tokenizer = ByteBPE.from_gpt2(vocab, merges)
    for text in ("<|endoftext|>", "<| a b |>"):
        assert tokenizer.encode(text).max() < SIZE
        np.testing.assert_array_equal(tokenizer.encode(text), ours().encode(text))
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode([SIZE, SIZE + 1]) == "<|endoftext|><| a b |>"
    assert ByteBPE.from_gpt2(vocab, merges).to_gpt2() == (vocab, merges)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"add": {"\n": 1000}}, r"two tokens of the vocabulary have the same bytes, b'\\n'"),
        ({"add": {"more": 5000}}, "ids of the vocabulary must be those from 0 to 1000"),
        ({"lose": "Ċ"}, "ids of the vocabulary must be those from 0 to 998"),
        ({"lose": "Ċ", "add": {"A1": 198}}, r"lacks 1 of the 256 bytes, such as b'\\n'"),
        ({"merge": ("a", "nobody")}, "merges name 'nobody'"),
        ({"merge": ("Z", "Z")}, "lacks what 1 merges make, such as b'ZZ'"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(change: dict[str, Any], complaint: str) -> None:
    vocab, merges = ours().to_gpt2()
    vocab.pop(change.get("lose"), None)  # type: ignore[arg-type]
    with pytest.raises(VocabularyError, match=complaint):
        ByteBPE.from_gpt2(vocab | change.get("add", {}), merges + [pair for pair in [change.get("merge")] if pair])


def test_no_pair_that_occurs_once_is_merged() -> None:
    tokenizer = result(train_tokenizer(DataSettings(tokenizer="bytebpe"), lambda: iter(["a rose is a rose"])))
    assert tokenizer.tokens[256:] == [b"os", b"ros", b" ros", b" rose"]
    assert sorted(tokenizer.tokens[:256]) == BYTES


def test_lines_are_encoded_without_regard_to_those_around_them() -> None:
    vocab, merges = ours().to_gpt2()
    tokenizer = ByteBPE.from_gpt2(vocab | {"ĠĊ": SIZE}, [*merges, ("Ġ", "Ċ")])
    lines = ["she had forty pints ", "  to boil", "\t and nobody \t", "'s "]
    joined = "".join(f"{line}\n" for line in lines)
    assert SIZE in tokenizer.encode(joined)  # in running text a space and a newline are one token
    encoded = tokenizer.encode_lines(joined)
    assert encoded.tolist() == [id for line in lines for id in [*tokenizer.encode(line).tolist(), tokenizer.newline]]


def test_learning_says_how_far_it_is() -> None:
    settings = DataSettings(tokenizer="bytebpe", vocab_size=SIZE)
    steps = list(train_tokenizer(settings, lambda: iter([PLAY])))
    assert steps[0] == Progress("learning the vocabulary", 0, SIZE)
    assert [step.done for step in steps[1:]] == [*range(356, SIZE, 100)]


def test_tokens_may_cut_a_character_and_the_text_is_whole() -> None:
    text = "".join(map(chr, range(0x4E00, 0x5600))) + "人生" * 1000
    tokenizer = result(train_tokenizer(DataSettings(tokenizer="bytebpe", vocab_size=300), lambda: iter([text])))
    ids = tokenizer.encode(text)
    assert len(ids) < len(utf8(text)) / 2
    assert tokenizer.decode(ids) == text
