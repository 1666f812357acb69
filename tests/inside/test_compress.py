"""A text compressed with a model comes back byte for byte, and its size is the model's score."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import LANGUAGE_MODELS
from texts import VERSES

import charlm
from charlm import archs
from charlm.config import DataSpec, Lengths, take
from charlm.errors import CharlmError, CorpusError, RunError, SettingsError, VocabularyError
from charlm.inside.compress import compress, decompress, encoded_pieces, whole_numbers
from charlm.progress import result
from charlm.text.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from charlm.text.vocabulary import Vocabularies
from charlm.writer import Writer

pytest.importorskip("constriction")
pytest.importorskip("threadpoolctl")

Typed = Callable[..., tuple[int, str, str]]
SMALL = {"layers": 2, "hidden_size": 16, "heads": 2, "dropout": 0.0}
LETTERS = CharTokenizer(sorted(set(map(ord, VERSES))), spell=False)


def writer(arch: str, tokenizer: Tokenizer, seed: int = 0, **changes: Any) -> Writer:
    """A model that was never trained, with opinions all the same."""
    torch.manual_seed(seed)
    kind = archs.load(arch)
    model = kind(take(kind.Config, {**SMALL, **changes}), DataSpec(tokenizer.vocab_size, Lengths.of_text(16)))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return Writer(model, Vocabularies(tokenizer, tokenizer))


def there_and_back(using: Writer, data: bytes, again: Writer | None = None) -> bytes:
    Path("text").write_bytes(data)
    result(compress(using, Path("text"), Path("packed"), name="x"))
    result(decompress(again or using, Path("packed"), Path("back")))
    return Path("back").read_bytes()


@pytest.mark.parametrize("arch", LANGUAGE_MODELS)
def test_every_architecture_brings_its_text_back_and_needs_no_more_than_its_ideal(arch: str) -> None:
    text = VERSES[:300].encode()  # many windows long
    one, other = writer(arch, LETTERS), writer(arch, LETTERS)
    assert there_and_back(one, text, other) == text
    made = result(compress(one, Path("text"), Path("packed")))
    assert made.compressed == Path("packed").stat().st_size
    assert made.compressed <= made.ideal / 8 * 1.005 + 64


def test_the_size_of_the_file_proves_the_score(trained: Path) -> None:
    lm, text = charlm.load(trained, device="cpu"), VERSES[:3000]
    Path("text").write_text(text, encoding="utf-8")
    result(compress(lm, Path("text"), Path("packed")))
    score = result(lm.scoring(text))
    size = score.bits_per_byte * score.bytes / 8
    assert size < Path("packed").stat().st_size < 1.005 * size + 64


BYTES = writer("lstm", ByteTokenizer(), layers=1)
ODD = st.one_of(
    st.binary(max_size=40),
    st.text(st.characters(codec=None), max_size=20).map(lambda t: t.encode("utf-8", "surrogatepass")),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ODD)
def test_any_bytes_come_back_from_a_run_that_can_spell_bytes(data: bytes) -> None:
    assert there_and_back(BYTES, data) == data


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ODD, st.integers(1, 9))
def test_the_pieces_of_a_file_spell_the_file_wherever_it_is_cut(data: bytes, size: int) -> None:
    Path("text").write_bytes(data)
    tokenizer = CharTokenizer([ord(c) for c in "aé☃"], spell=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charlm.inside.compress.PIECE", size)
        pieces = list(encoded_pieces(Path("text"), tokenizer))
    assert b"".join(raw for _, raw in pieces) == data
    assert b"".join(tokenizer.tokens[id] for ids, _ in pieces for id in ids) == data
    assert all(len(raw) < size + 4 for _, raw in pieces)  # so memory does not grow with the file


@pytest.mark.parametrize(
    "data", [b"", b"a", b"no newline at the end", b"one\r\ntwo\r\n\r\n", b"\n" * 50, "œuvre ☃".encode()]
)
def test_nothing_about_a_file_is_tidied_up(data: bytes) -> None:
    assert there_and_back(BYTES, data) == data


def test_an_alphabet_of_one_letter_takes_next_to_nothing() -> None:
    lm = writer("lstm", CharTokenizer([ord("a")], spell=False))
    assert there_and_back(lm, b"a" * 500) == b"a" * 500
    assert Path("packed").stat().st_size < 64


def test_no_token_is_impossible_and_the_parts_make_a_whole() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 65, 50_000):
        for sharpness in (0, 1, 30, 700):
            logits = sharpness * rng.standard_normal(size)
            counts = whole_numbers(np.exp(logits - logits.max()))
            assert counts.min() >= 0  # the coder adds 1 to each
            assert counts.sum() + len(counts) == 2**24


def refused(kind: type[CharlmError], words: str, *how: Any) -> str:
    with pytest.raises(kind, match=words) as caught:
        result(decompress(*how))
    assert not Path("back").exists()
    return str(caught.value)


def test_another_run_is_refused_and_the_right_one_named() -> None:
    Path("text").write_bytes(b"The lamp is out")
    result(compress(writer("gru", LETTERS), Path("text"), Path("packed"), name="verses-gru"))
    for other in (writer("gru", LETTERS, seed=1), writer("gru", LETTERS, layers=1), writer("gru", ByteTokenizer())):
        said = refused(RunError, "needs the run it was made with, verses-gru", other, Path("packed"), Path("back"))
        assert said.count("\n") == 0


def test_damage_anywhere_is_seen_at_once() -> None:
    Path("text").write_bytes(VERSES[:200].encode())
    result(compress(BYTES, Path("text"), Path("packed")))
    whole = Path("packed").read_bytes()
    for at in range(5, len(whole), 7):
        Path("packed").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        refused(CorpusError, "damaged", BYTES, Path("packed"), Path("back"))
    for end in (4, 5, 30, len(whole) - 1):
        Path("packed").write_bytes(whole[:end])
        refused(CorpusError, "damaged", BYTES, Path("packed"), Path("back"))
    Path("packed").write_bytes(whole[:4] + b"\x09" + whole[5:])
    refused(CorpusError, "is of format 9, this charlm reads 1", BYTES, Path("packed"), Path("back"))
    refused(CorpusError, "is not what charlm compress writes", BYTES, Path("text"), Path("back"))
    refused(CorpusError, "gone cannot be read", BYTES, Path("gone"), Path("back"))


def test_a_machine_that_computes_otherwise_leaves_no_wrong_text_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.inside.compress.fingerprint", lambda _: bytes(16))
    Path("text").write_bytes(VERSES[:200].encode())
    result(compress(writer("lstm", LETTERS), Path("text"), Path("packed")))
    elsewhere = writer("lstm", LETTERS)
    with torch.no_grad():
        for p in elsewhere.model.parameters():
            p.mul_(1 + 1e-3)
    refused(RunError, "this machine computes other last digits", elsewhere, Path("packed"), Path("back"))


@pytest.mark.parametrize(
    ("data", "words"), [("☃".encode(), "U\\+2603"), (b"a\r\n", "U\\+000D"), (b"The \xff", "no UTF-8 .*0xff")]
)
def test_what_the_vocabulary_cannot_spell_is_refused_before_the_work(data: bytes, words: str) -> None:
    Path("text").write_bytes(data)
    with pytest.raises(VocabularyError, match=words):
        result(compress(writer("lstm", LETTERS), Path("text"), Path("packed")))
    assert not Path("packed").exists()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(SettingsError, match=r'pip install -e "\.\[compress\]"'):
        result(compress(BYTES, Path("text"), Path("packed")))


def test_on_the_command_line(typed: Typed, trained: Path) -> None:
    Path("scene.txt").write_text(VERSES[:1500], encoding="utf-8")
    code, out, _ = typed("compress", trained, "scene.txt")
    assert code == 0
    for row in ("the file", "xz -9e", "charlm", "the model's ideal"):
        assert row in out
    size = Path("scene.txt.charlm").stat().st_size
    assert f"{size:,}" in out
    assert "charlm decompress scene.txt.charlm" in out
    assert "scene.txt exists already" in typed("decompress", "scene.txt.charlm", trained)[2]
    Path("scene.txt").rename("before.txt")
    code, out, _ = typed("decompress", "scene.txt.charlm", trained)
    assert (code, out) == (0, "scene.txt: 1,500 bytes, the same as before\n")
    assert Path("scene.txt").read_bytes() == Path("before.txt").read_bytes()
    said = json.loads(typed("compress", trained, "before.txt", "--out", "b", "--json")[1])
    assert said["bytes"] == said["tokens"] == 1500
    assert said["compressed"] == size == Path("b").stat().st_size
    assert typed("decompress", "b", trained, "--out", "c")[0] == 0
    assert Path("c").read_bytes() == Path("before.txt").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compress", "R", "gone.txt"], "gone.txt cannot be read"),
        (["compress", "a", "b", "c"], "3 names were given; charlm compress [RUN] FILE"),
        (["compress", "verses.txt"], "no run 'last' here"),
        (["compress", "R", "verses.txt", "--out", "no/such/folder"], "No such file or directory; name another file"),
        (["decompress", "verses.txt", "R"], "verses.txt does not end in .charlm"),
        (["decompress", "verses.txt", "R", "--out", "o"], "verses.txt is not what charlm compress writes"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    typed: Typed, trained: Path, verses: Path, words: list[str], message: str
) -> None:
    del verses  # lies there
    code, out, err = typed(*[trained if word == "R" else word for word in words])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
