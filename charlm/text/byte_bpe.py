"""GPT-2's tokenizer: byte pair encoding of the bytes of UTF-8, within words.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019, section 2.2), after Sennrich et al.,
"Neural Machine Translation of Rare Words with Subword Units" (2016, arXiv:1508.07909). A text is cut into pieces, such
as words with the space before them (`charlm.text.units.pieces`), and no token spans two. Within a piece, tokens that
are neighbours are merged into one, first the pair that was learnt first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

from charlm.errors import VocabularyError
from charlm.progress import Progress
from charlm.text.printed import ORDER, printed, read
from charlm.text.tokenizers import BYTES, Tokenizer, utf8
from charlm.text.units import Ids, Units, pieces

CACHED = 1 << 17  # pieces whose ids are remembered
SHORT = 64  # characters of a piece that is remembered, at most
LEAST = 2  # occurrences of a pair that is worth a token


class ByteBPE(Tokenizer):
    """Byte pair encoding. Ids that no merge makes, such as that of `<|endoftext|>`, are decoded and never encoded."""

    kind = "bytebpe"

    def __init__(self, tokens: Sequence[str], merges: Sequence[Sequence[int]]) -> None:
        """`tokens` are all tokens by id, as `printed` writes them; `merges` pairs of ids, the first to be merged first.

        Raises `VocabularyError` if one of the 256 bytes, or what a merge makes, is not among the tokens, or one is
        there twice.
        """
        super().__init__([read(token) for token in tokens])
        ids = {token: id for id, token in enumerate(self.tokens)}
        if twice := [token for id, token in enumerate(self.tokens) if ids[token] != id]:
            raise VocabularyError(f"two tokens of the vocabulary have the same bytes, {twice[0]!r}")
        if lacking := [byte for byte in BYTES if byte not in ids]:
            raise VocabularyError(f"the vocabulary lacks {len(lacking)} of the 256 bytes, such as {lacking[0]!r}")
        self.merges = [(left, right) for left, right in merges]
        made = [self.tokens[left] + self.tokens[right] for left, right in self.merges]
        if lacking := [token for token in made if token not in ids]:
            raise VocabularyError(f"the vocabulary lacks what {len(lacking)} merges make, such as {lacking[0]!r}")
        self._bytes = [ids[byte] for byte in BYTES]
        self._made = [ids[token] for token in made]  # (merges,)
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._remembered = lru_cache(CACHED)(self._merge)

    @classmethod
    def from_gpt2(
        cls, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], special: Mapping[str, int] = {}
    ) -> ByteBPE:
        """From GPT-2's files: `vocab.json`, the pairs of `merges.txt`, and ids of special tokens by their text.

        The vocabulary may hold special tokens too; a text that could be another token's bytes is known by `special`.

        Raises `VocabularyError` as the constructor does, and for ids that are not 0, 1, 2, ….
        """
        ids = {**vocab, **special}
        tokens = sorted(ids, key=ids.__getitem__)
        if [ids[token] for token in tokens] != [*range(len(tokens))]:
            raise VocabularyError(f"the {len(tokens)} ids of the vocabulary must be those from 0 to {len(tokens) - 1}")
        unknown = [part for pair in merges for part in pair if part not in vocab]
        if unknown:
            raise VocabularyError(f"merges name {unknown[0]!r}, which the vocabulary lacks")
        pairs = [(ids[left], ids[right]) for left, right in merges]
        return cls([printed(utf8(token)) if token in special else token for token in tokens], pairs)

    @cached_property
    def special(self) -> dict[str, int]:
        """Ids, by their text, of tokens that no text encodes to: neither bytes, nor made by a merge."""
        made = {self.tokens[id] for id in self._made}
        texts = {
            token.decode("utf-8", "ignore"): id
            for id, token in enumerate(self.tokens)
            if len(token) > 1 and token not in made
        }
        return {text: id for text, id in texts.items() if utf8(text) == self.tokens[id]}

    def to_gpt2(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """(vocab.json, merges.txt) as `from_gpt2` reads them with `special`, whose tokens stand there as their text.

        Raises `VocabularyError` if a special token's text is how another token's bytes are written.
        """
        names = [printed(token) for token in self.tokens]
        for text, id in self.special.items():
            names[id] = text
        vocab = {name: id for id, name in enumerate(names)}
        if twice := [name for id, name in enumerate(names) if vocab[name] != id]:
            raise VocabularyError(f"the special token {twice[0]!r} is written as another token is in GPT-2's files")
        return vocab, [(names[left], names[right]) for left, right in self.merges]

    def encode_lines(self, text: str) -> Ids:
        return self._spread(pieces(text, lines=True))

    def _encode(self, text: str) -> Ids:
        return self._spread(pieces(text))

    def _spread(self, cut: Units) -> Ids:
        return cut.spread([(self._remembered if len(p) <= SHORT else self._merge)(p) for p in cut.distinct])

    def _merge(self, piece: str) -> tuple[int, ...]:
        """The ids of a piece: the pair learnt first is merged, of equal ones the leftmost, until there is none."""
        ids, ranks = [self._bytes[byte] for byte in utf8(piece)], self._ranks
        end = len(ids)
        before, after = [*range(-1, end - 1)], [*range(1, end + 1)]  # the neighbours of every place; -1 and `end`: none
        candidates = [(ranks[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in ranks]
        heapify(candidates)
        while candidates:
            rank, left = heappop(candidates)
            right = after[left]
            if right == end or ranks.get((ids[left], ids[right])) != rank:
                continue  # one of them was merged with another
            ids[left], ids[right] = self._made[rank], -1
            after[left] = after[right]
            if after[left] < end:
                before[after[left]] = left
            for at in (before[left], left):
                if at >= 0 and after[at] < end and (pair := (ids[at], ids[after[at]])) in ranks:
                    heappush(candidates, (ranks[pair], at))
        return tuple([id for id in ids if id >= 0])

    def _fields(self) -> dict[str, Any]:
        return {"tokens": [printed(token) for token in self.tokens], "merges": self.merges}


def learn(counts: Mapping[str, int], vocab_size: int) -> Generator[Progress, None, ByteBPE]:
    """A vocabulary of at most `vocab_size` tokens from pieces and their `counts`: the 256 bytes, then a merge for each.

    The pair that is merged next is the most frequent, of equally frequent ones that of the lowest ids; no pair that
    occurs once. A token is a character here, its id the code point, so that a piece is a string.
    """
    alphabet = bytes(sorted(range(256), key=ORDER.__getitem__))
    words = [utf8(piece).translate(alphabet).decode("latin-1") for piece in counts]
    weights = [*counts.values()]
    pairs: dict[str, int] = defaultdict(int)  # how often each occurs
    places: dict[str, list[int]] = defaultdict(list)  # the words that hold it, or held it
    for at, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for pair in map("".join, pairwise(word)):
            pairs[pair] += weight
            places[pair].append(at)
    ids = {bytes([byte]): id for id, byte in enumerate(ORDER)}
    tokens, merges = [*ids], list[tuple[int, int]]()
    heap = [(-count, pair) for pair, count in pairs.items() if count >= LEAST]
    heapify(heap)
    while heap and len(tokens) < vocab_size:
        count, pair = heappop(heap)
        if -count != pairs.get(pair, 0):  # it has become rarer since
            if pairs.get(pair, 0) >= LEAST:
                heappush(heap, (-pairs[pair], pair))
            continue
        left, right = map(ord, pair)
        token = tokens[left] + tokens[right]
        if token not in ids:  # two merges may make one token
            ids[token] = len(tokens)
            tokens.append(token)
        merges.append((left, right))
        gained = _replace(pair, chr(ids[token]), words, weights, pairs, places)
        for pair in gained:
            if pairs[pair] >= LEAST:
                heappush(heap, (-pairs[pair], pair))
        if len(merges) % 100 == 0:
            yield Progress("learning the vocabulary", len(tokens), vocab_size)
    return ByteBPE([printed(token) for token in tokens], merges)


def _replace(
    pair: str, new: str, words: list[str], weights: list[int], pairs: dict[str, int], places: dict[str, list[int]]
) -> set[str]:
    """Write `new` for `pair` in all words; gives the pairs that there are more of now."""
    first, second = pair[0], pair[1]
    gained = set[str]()
    for at in places.pop(pair):
        weight, parts = weights[at], words[at].split(pair)
        if len(parts) == 1:
            continue  # it was there twice, or is no more
        words[at] = new.join(parts)
        for number, (before, after) in enumerate(pairwise(parts)):
            changes = []
            if before:
                changes.append((before[-1] + first, before[-1] + new))
            elif number:
                changes.append((second + first, new + new))
            if after:
                changes.append((second + after[0], new + after[0]))
            for old, other in changes:
                pairs[old] -= weight
                pairs[other] += weight
                places[other].append(at)
                gained.add(other)
    del pairs[pair]
    return gained
