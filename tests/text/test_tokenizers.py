"""Tokenizers give back any text, never cut a character, and say what they do not know."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from functools import cache
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlm.config import DataSettings
from charlm.errors import CorpusError, RunError, VocabularyError
from charlm.progress import result
from charlm.text import vocabulary
from charlm.text.tokenizers import Tokenizer
from charlm.text.vocabulary import from_json, train_tokenizer

TEXT = """It was low water in Saltmere, and the clock above the fish market was striking nine for the third time.
\tPeg Tallow, her sleeves rolled to the elbow — she had forty pints to boil and nobody to stir —
leaned quickly through the door of the Three Herrings,  though not quickly enough.

Über der Küste fiel müder Regen, und die Möwen saßen naß am Fluß. 海は静か。灯台は暗い。🙂
"""
STRANGE = ["\ud800", "\udc00", "\0", "\r", "\ufffd", "\u2047", "\ufeff", "\u0301", "\U0010ffff", " \n ", "the" * 30]
SPECIAL = ["▁", "▁the", "▅", "<s>", "</s>", "<unk>", "<0x41>"]  # to SentencePiece
LOSSLESS = ["char", "byte", "word", "bpe", "bytebpe", "unigram"]

# Everything that a Python string can hold, often enough in pieces of the text that was trained on.
anything = st.lists(
    st.one_of(
        st.text(st.characters(categories=["C", "L", "M", "N", "P", "S", "Z"])),
        st.sampled_from([*re.findall(r"\w+|\W", TEXT), *STRANGE, *SPECIAL]),
    )
).map("".join)


def train(text: str, **values: Any) -> Tokenizer:
    def chunks() -> Iterator[str]:
        return (text[at : at + 1000] for at in range(0, len(text), 1000))

    return result(train_tokenizer(DataSettings(**values), chunks))


@cache
def trained(kind: str) -> Tokenizer:
    """A tokenizer of that kind that can spell any text."""
    return train(TEXT * 3, tokenizer=kind, vocab_size=500, min_count=4)


# What holds for all of them


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=150, deadline=None)
@given(anything)
@example("\ud83d\ude00")  # two surrogates that would be one character if they were read as UTF-16
@example("▁ ▁\0\ud800 x\0")
def test_any_text_is_given_back_whole_and_as_a_stream(kind: str, text: str) -> None:
    tokenizer = trained(kind)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert tokenizer.decode(ids) == text
    decoder = tokenizer.decoder()
    assert "".join([*map(decoder.feed, ids.tolist()), decoder.feed(final=True)]) == text


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_stream_of_any_ids_is_their_text_and_every_id_has_a_meaning(kind: str, data: st.DataObject) -> None:
    tokenizer = trained(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    decoder = tokenizer.decoder()
    assert "".join([*map(decoder.feed, ids), decoder.feed(final=True)]) == tokenizer.decode(ids)
    assert all(tokenizer.tokens)


def test_a_stream_holds_back_the_bytes_of_an_unfinished_character() -> None:
    decoder = trained("byte").decoder()
    assert [decoder.feed(byte) for byte in "a€\ud800!".encode("utf-8", "surrogatepass")] == [
        *["a", "", "", "€"],
        *["", "", "\ud800", "!"],
    ]
    assert decoder.feed(0xE2, 0x82) == ""
    assert decoder.feed(final=True) == "\ufffd"


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_tokenizer_survives_json_in_utf_8_and_keeps_its_fingerprint(kind: str) -> None:
    tokenizer = train(TEXT * 3 + "\udbff\udc00\ud800", tokenizer=kind, vocab_size=400)
    copy = from_json(json.loads(json.dumps(tokenizer.to_json(), ensure_ascii=False).encode()))
    assert type(copy) is type(tokenizer)
    assert (copy.tokens, copy.sha256) == (tokenizer.tokens, tokenizer.sha256)
    text = TEXT + "\udbff\udc00"
    np.testing.assert_array_equal(copy.encode(text), tokenizer.encode(text))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_training_twice_gives_the_same_tokenizer(kind: str) -> None:
    first, second = (train(TEXT * 2, tokenizer=kind, vocab_size=320) for _ in range(2))
    assert first.sha256 == second.sha256


def test_different_tokenizers_have_different_fingerprints() -> None:
    assert len({trained(kind).sha256 for kind in LOSSLESS}) == len(LOSSLESS)
    assert train("ab").sha256 != train("abc").sha256


@pytest.mark.parametrize("kind", ["word", "bpe", "bytebpe", "unigram"])
def test_a_vocabulary_is_no_larger_than_asked_for(kind: str) -> None:
    assert 256 < train(TEXT * 9, tokenizer=kind, vocab_size=300).vocab_size <= 300


@pytest.mark.parametrize("kind", ["word", "bpe", "bytebpe", "unigram"])
def test_a_small_text_gives_a_small_vocabulary(kind: str) -> None:
    tokenizer = train("a rose is a rose", tokenizer=kind, vocab_size=100_000)
    assert 256 < tokenizer.vocab_size < 300
    assert tokenizer.decode(tokenizer.encode("a rose")) == "a rose"


@pytest.mark.parametrize("kind", ["word", "bpe", "bytebpe", "unigram"])
def test_more_characters_than_the_vocabulary_has_room_for_are_no_problem(kind: str) -> None:
    text = "".join(map(chr, range(0x4E00, 0x5600))) + "人生" * 1000
    tokenizer = train(text, tokenizer=kind, vocab_size=600)
    assert tokenizer.vocab_size <= 600
    assert len(tokenizer.encode("人")) == 1  # the frequent ones have found a place
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["word", "bpe", "bytebpe", "unigram"])
def test_a_frequent_word_takes_fewer_tokens_than_a_strange_one(kind: str) -> None:
    tokenizer = trained(kind)
    assert len(tokenizer.encode("quickly")) < len(tokenizer.encode("yklciuq"))


@pytest.mark.parametrize("kind", ["word", "bpe", "bytebpe", "unigram"])
@settings(max_examples=100, deadline=None)
@given(anything, anything)
def test_a_cut_before_a_word_and_its_blanks_changes_no_token(kind: str, before: str, after: str) -> None:
    tokenizer = trained(kind)
    before, after = before.rstrip(), " " + after.lstrip()
    parts = np.concatenate([tokenizer.encode(before), tokenizer.encode(after)])
    np.testing.assert_array_equal(tokenizer.encode(before + after), parts)


@pytest.mark.parametrize(
    ("kind", "text", "start"),
    [("char", "b a\n", b"\n"), ("char", "b a", b" "), ("char", "ba", b"a"), ("byte", "", b"\n"), ("bpe", "ba", b"\n")],
)
def test_a_blank_page_starts_like_a_line_or_a_word(kind: str, text: str, start: bytes) -> None:
    tokenizer = train(text, tokenizer=kind)
    assert tokenizer.tokens[tokenizer.start] == start


# char


def test_the_alphabet_is_the_sorted_characters_of_the_text() -> None:
    tokenizer = train("über\n🙂\ud800", tokenizer="char")
    assert tokenizer.tokens == [c.encode("utf-8", "surrogatepass") for c in "\nberü\ud800🙂"]
    assert tokenizer.encode("rüb").tolist() == [3, 4, 1]


def test_rare_characters_are_spelled_in_bytes_and_ascii_is_its_own_bytes() -> None:
    tokenizer = train("ééa€", tokenizer="char", min_count=2)
    assert tokenizer.vocab_size == 257
    assert tokenizer.encode("aé€é").tolist() == [ord("a"), 256, *"€".encode(), 256]


def test_without_rare_characters_there_are_no_bytes() -> None:
    assert train("aabb", tokenizer="char", min_count=2).tokens == [b"a", b"b"]


def test_an_unknown_character_is_named_with_what_to_do() -> None:
    with pytest.raises(VocabularyError, match=r"lacks 'x' \(U\+0078\), 'é' \(U\+00E9\), .*--tokenizer byte"):
        train("abc").encode("abxéx🙂")
    with pytest.raises(VocabularyError, match=r"'9' \(U\+0039\) and 16 more;"):
        train("abc").encode(string.digits + string.ascii_uppercase[:16])


def test_unknown_characters_can_be_skipped() -> None:
    tokenizer = train("abc")
    assert tokenizer.decode(tokenizer.encode("xaéxb🙂", "skip")) == "ab"
    assert tokenizer.encode("xyz", "skip").tolist() == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("“Don’t”", '"don\'t"'),
        ("1914–18", "-"),
        ("wait—what", "wait--what"),
        ("naïve façade", "naive facade"),
        ("ﬁne…", "fine..."),
        ("ÉA\u0301", "ea"),
        ("a\u202fb", "a b"),
        ("漢a字", "a"),
    ],
)
def test_unknown_characters_can_be_replaced_by_the_nearest(written: str, read: str) -> None:
    tokenizer = train(string.ascii_lowercase + "\"'-. ")
    assert tokenizer.decode(tokenizer.encode(written, "nearest")) == read


def test_the_other_case_may_be_the_nearest() -> None:
    tokenizer = train("STRASSE É")
    assert tokenizer.decode(tokenizer.encode("straße é", "nearest")) == "STRASSE É"


def test_the_printable_alphabet_is_pythons_in_its_order_whatever_the_text() -> None:
    tokenizer = train("“naïve”\u200b —", alphabet="printable", min_count=9)
    assert tokenizer.tokens == [c.encode() for c in string.printable]
    assert tokenizer.decode(tokenizer.encode("“naïve”\u200b —", "nearest")) == '"naive" --'


def test_a_text_that_printable_ascii_cannot_show_is_refused() -> None:
    with pytest.raises(VocabularyError, match=r"looks like '漢' \(U\+6F22\); use --alphabet corpus"):
        train("naïve 漢", alphabet="printable")


# word


def test_words_blanks_and_single_characters_are_tokens() -> None:
    tokenizer = train("the cat — the  dog!\n\n" * 2, tokenizer="word")
    cut = [tokenizer.tokens[id].decode() for id in tokenizer.encode("the  dog — the! cat\n\n")]
    assert cut == ["the", "  ", "dog", " ", "—", " ", "the", "!", " ", "cat", "\n\n"]


def test_an_unknown_word_is_spelled_in_characters_and_an_unknown_character_in_bytes() -> None:
    tokenizer = train("über über", tokenizer="word")
    cut = [tokenizer.tokens[id] for id in tokenizer.encode("übé")]
    assert cut == ["ü".encode(), b"b", b"\xc3", b"\xa9"]


def test_the_most_frequent_words_are_in_the_vocabulary_and_of_equals_the_first() -> None:
    words = [f"{a}{b}" for a in string.ascii_lowercase for b in string.ascii_lowercase]
    tokenizer = train(" ".join([*reversed(words), "zz"]), tokenizer="word", vocab_size=300)
    assert tokenizer.tokens[256:] == [word.encode() for word in ["zz", *words[:43]]]


def test_words_too_many_to_count_leave_the_frequent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "COUNTED_WORDS", 50)
    frequent, rare = [f"often{n:02}" for n in range(40)], [f"seldom{n}" for n in range(5000)]
    tokenizer = train(" ".join(frequent * 9 + rare), tokenizer="word", vocab_size=300)
    assert tokenizer.tokens[256:296] == [word.encode() for word in frequent]


# bpe and unigram


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_are_learnt_from_the_beginning_of_a_text_without_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "SAMPLE", 10_000)
    endless = chain(["early "] * 2000, repeat("late "))
    tokenizer = result(train_tokenizer(DataSettings(tokenizer=kind), lambda: endless))
    assert len(tokenizer.encode(" early")) < 4
    assert b"t" in tokenizer.tokens  # as a byte: the character came too late
    assert b"e" in tokenizer.tokens[257:]
    assert b"t" not in tokenizer.tokens[257:]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_are_learnt_from_long_lines_too(kind: str) -> None:
    assert b" antidisestab" in train("antidisestab " * 5000, tokenizer=kind).tokens


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("text", ["", "\n\n", "\t\0▁\ud800"])
def test_a_text_with_nothing_to_learn_pieces_from_is_refused(kind: str, text: str) -> None:
    with pytest.raises(CorpusError, match=f"nothing that {kind} could learn from; use --tokenizer byte"):
        train(text, tokenizer=kind)


# from_json


def test_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RunError, match="of kind 'morse'; this charlm knows byte, char, word, bpe, bytebpe, unigram"):
        from_json({"kind": "morse"})


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"kind": []},
        {"kind": "char"},
        {"kind": "char", "characters": ["a"], "spell": False},
        {"kind": "char", "characters": [1 << 40], "spell": False},
        {"kind": "byte", "surprise": 1},
        {"kind": "word", "characters": [], "words": [1]},
        {"kind": "bpe", "model": "not base64"},
        {"kind": "bytebpe", "tokens": ["a"], "merges": []},
        {"kind": "unigram", "model": "bm90IGEgbW9kZWw="},
    ],
)
def test_a_damaged_description_is_refused(value: Any) -> None:
    with pytest.raises(RunError, match=r"damaged|of kind"):
        from_json(value)
