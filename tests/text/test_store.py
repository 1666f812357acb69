"""The ids on disk are those of the text, are made once, and survive whatever happens to the process or the folder."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charlm.baselines import baselines
from charlm.config import DataSettings
from charlm.errors import CorpusError, SettingsError, VocabularyError
from charlm.kinds.text import Text
from charlm.progress import Progress, result
from charlm.text import store as module
from charlm.text.corpus import Corpus
from charlm.text.store import Split, Store, default_cache_dir, prepare

KINDS = ["char", "byte", "word", "bpe", "bytebpe", "unigram"]
SPEECH = "Alack, poor Peg! I owe her, Niles: eleven shillings on the beam — and a herring on account. 人生 \n  \n"


def nonsense(words: int) -> str:
    return " ".join(random.Random(1).choices(SPEECH.split(" "), k=words))


def write(folder: Path, text: str) -> Corpus:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return Corpus.open([folder / "text.txt"])


def ids(folder: Path, text: str, **values: Any) -> Store:
    return result(prepare(write(folder, text), DataSettings(**values), folder / "cache"))


def splits(store: Store) -> list[Split]:
    return [store.train, store.validation, store.test]


def texts(store: Store) -> list[str]:
    return [store.tokenizer.decode(split.ids) for split in splits(store)]


# What is in it


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(lambda t: t.strip("\ufeff"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, shares=st.tuples(*[st.floats(0, 0.45)] * 2))
@pytest.mark.parametrize("kind", ["char", "byte", "word"])
def test_any_text_comes_back_out_of_its_ids(tmp_path: Path, kind: str, text: str, shares: tuple[float, float]) -> None:
    store = ids(tmp_path, text, tokenizer=kind, val_frac=shares[0], test_frac=shares[1])
    expected = text.lstrip("\ufeff").replace(*("\r\n" if "\n" in text else "\r", "\n"))
    assert "".join(texts(store)) == expected
    assert [len(part) for part in texts(store)] == [split.chars for split in splits(store)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_are_the_whole_text_cut_by_characters(tmp_path: Path, kind: str) -> None:
    text = nonsense(1000)
    store = ids(tmp_path, text, tokenizer=kind, val_frac=0.2, test_frac=0.1)
    validation, test = round(len(text) * 0.2), round(len(text) * 0.1)
    train = len(text) - validation - test
    assert texts(store) == [text[:train], text[train : train + validation], text[train + validation :]]
    assert [split.chars for split in splits(store)] == [train, validation, test]
    assert [split.bytes for split in splits(store)] == [len(part.encode()) for part in texts(store)]
    assert [len(split) for split in splits(store)] == [len(split.ids) for split in splits(store)]
    assert store.corpus_sha256 == Corpus.open([tmp_path / "text.txt"]).sha256


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3, 50, 333])
def test_encoding_in_pieces_gives_the_ids_of_the_whole(
    tmp_path: Path, kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = nonsense(300) + "  \n\n\n   " + nonsense(100) + " \t \n\xa0\n \u3000\n" * 9 + nonsense(9) + " " * 40
    monkeypatch.setattr(Corpus.chunks, "__defaults__", (size,))
    store = ids(tmp_path, text, tokenizer=kind, val_frac=0, test_frac=0)
    np.testing.assert_array_equal(store.train.ids, store.tokenizer.encode(text))


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_without_end_or_blank_is_cut_anywhere(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Corpus.chunks, "__defaults__", (10,))
    monkeypatch.setattr(module, "LONGEST", 100)
    text = " " + "abc" * 1000
    steps = list(prepare(write(tmp_path, text), DataSettings(tokenizer=kind), tmp_path / "cache"))
    assert np.diff([step.done for step in steps if step.what == "encoding"]).max() <= 110
    assert "".join(texts(ids(tmp_path, text, tokenizer=kind))) == text


@pytest.mark.parametrize("kind", ["char", "byte"])
@pytest.mark.parametrize("chars", range(1, 25))
def test_a_tiny_text_has_all_its_characters_in_some_part(tmp_path: Path, kind: str, chars: int) -> None:
    store = ids(tmp_path, "x" * chars, tokenizer=kind)
    assert [len(split) for split in splits(store)] == [chars - 2 * round(chars / 20), *[round(chars / 20)] * 2]


def test_a_text_of_no_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"text\.txt holds no text"):
        ids(tmp_path, "")


@pytest.mark.parametrize(
    ("characters", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)]
)
def test_ids_are_as_narrow_as_the_vocabulary_allows(tmp_path: Path, characters: int, dtype: type) -> None:
    store = ids(tmp_path, "".join(map(chr, range(0x10000, 0x10000 + characters))), val_frac=0, test_frac=0)
    assert store.tokenizer.vocab_size == characters
    assert store.train.ids.dtype == dtype
    assert store.train.ids[-1] == characters - 1


def test_ids_are_mapped_and_cannot_be_changed(tmp_path: Path) -> None:
    store = ids(tmp_path, "some text")
    assert isinstance(store.train.ids, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.train.ids[0] = 1


def test_the_alphabet_is_that_of_the_whole_text_and_words_are_those_of_the_training_part(tmp_path: Path) -> None:
    text = "plain words here " * 9 + "strange"
    shares = {"val_frac": 0.0, "test_frac": 7 / len(text)}
    char, word = (ids(tmp_path, text, tokenizer=kind, **shares) for kind in ("char", "word"))
    assert texts(char)[2] == texts(word)[2] == "strange"
    assert b"g" in char.tokenizer.tokens
    assert b"words" in word.tokenizer.tokens
    assert b"strange" not in word.tokenizer.tokens


def test_printable_ascii_takes_what_is_nearest_and_counts_the_text_that_it_took(tmp_path: Path) -> None:
    """A score is shared by the characters and bytes that were scored, and those are no others."""
    text = "naïve — ‘yes’ … "
    store = ids(tmp_path, 20 * text, alphabet="printable", val_frac=0.2, test_frac=0.1)
    plain = "naive -- 'yes' ... "
    assert texts(store) == [14 * plain, 4 * plain, 2 * plain]
    for part, read in zip(splits(store), texts(store), strict=True):
        assert (len(part), part.chars, part.bytes) == (len(read),) * 3
    assert Text.baselines(store) == baselines(14 * plain, 4 * plain)
    with pytest.raises(VocabularyError, match="U\\+6F22"):
        ids(tmp_path, "漢", alphabet="printable")


def test_a_given_printable_alphabet_loses_no_character_either(tmp_path: Path) -> None:
    """As of a run that another training starts from."""
    simplified = {"alphabet": "printable", "val_frac": 0.0, "test_frac": 0.0}
    given = ids(tmp_path, "plain", **simplified).vocabularies

    def encoded(text: str) -> Store:
        return result(prepare(write(tmp_path, text), DataSettings(**simplified), tmp_path / "cache", given))

    assert texts(encoded("naïve — "))[0] == "naive -- "
    for lost in ("a 漢", "漢"):
        with pytest.raises(VocabularyError, match=r"U\+6F22.* or start from a run that did"):
            encoded(lost)


def test_only_characters_are_simplified(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--alphabet printable is for --tokenizer char; byte reads the text as it"):
        ids(tmp_path, "naïve", alphabet="printable", tokenizer="byte")


@pytest.mark.parametrize("alphabet", ["corpus", "printable"])
def test_progress_comes_to_its_end_in_bytes(tmp_path: Path, alphabet: str) -> None:
    corpus = write(tmp_path, "é" * 100)
    steps = list(prepare(corpus, DataSettings(alphabet=alphabet), tmp_path / "cache"))
    assert all(isinstance(step, Progress) and 0 <= step.done <= step.total for step in steps)
    assert {step.total for step in steps if step.what != "learning the vocabulary"} == {200}
    assert list(dict.fromkeys(step.what for step in steps)) == ["reading", "learning the vocabulary", "encoding"]
    assert steps[-1].done == 200


# The cache


def test_a_text_is_encoded_once(tmp_path: Path) -> None:
    first = ids(tmp_path, "some text", tokenizer="byte")
    steps = list(prepare(write(tmp_path, "some text"), DataSettings(tokenizer="byte"), tmp_path / "cache"))
    assert {step.what for step in steps} == {"reading"}
    assert texts(ids(tmp_path, "some text", tokenizer="byte")) == texts(first)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".ids", ".json"]


def test_another_text_or_setting_is_encoded_anew_but_another_spelling_is_not(tmp_path: Path) -> None:
    assert texts(ids(tmp_path, "some text!")) != texts(ids(tmp_path, "other text"))
    assert len(ids(tmp_path, "some text!", val_frac=0.5).validation) == 5
    assert ids(tmp_path, "some text!", tokenizer="byte").tokenizer.kind == "byte"
    before = len(list((tmp_path / "cache").iterdir()))
    (tmp_path / "text.txt").write_bytes("some text!".encode("utf-16"))
    corpus = Corpus.open([tmp_path / "text.txt"], "utf-16")
    result(prepare(corpus, DataSettings(encoding="utf-16"), tmp_path / "cache"))
    assert len(list((tmp_path / "cache").iterdir())) == before == 8


@pytest.mark.parametrize("damage", ["cut", "longer", "no ids", "no description", "half a description", "{}", "[]"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    ids(tmp_path, "some text")
    (stored,) = (tmp_path / "cache").glob("*.ids")
    described = stored.with_suffix(".json")
    if damage == "cut":
        stored.write_bytes(stored.read_bytes()[:-1])
    elif damage == "longer":
        stored.write_bytes(stored.read_bytes() + b"\0")
    elif damage == "no ids":
        stored.unlink()
    elif damage == "no description":
        described.unlink()
    elif damage == "half a description":
        described.write_text(described.read_text()[:-40])
    else:
        described.write_text(damage)
    assert "".join(texts(ids(tmp_path, "some text"))) == "some text"
    json.loads(described.read_text())


def test_a_tokenizer_that_cannot_be_read_back_is_made_again(tmp_path: Path) -> None:
    ids(tmp_path, "some text")
    (described,) = (tmp_path / "cache").glob("*.json")
    described.write_text(described.read_text().replace('"char"', '"morse"'))
    assert "".join(texts(ids(tmp_path, "some text"))) == "some text"


def test_an_interrupted_encoding_leaves_nothing_behind(tmp_path: Path) -> None:
    work = prepare(write(tmp_path, "some text"), DataSettings(), tmp_path / "cache")
    for step in work:
        if step.what == "encoding":
            break
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".tmp"]
    work.close()
    assert not list((tmp_path / "cache").iterdir())


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    old, fresh, foreign = cache / f".{'a' * 32}.ids.x.tmp", cache / f".{'b' * 32}.json.y.tmp", cache / "diary.tmp"
    for path in (old, fresh, foreign):
        path.write_text("")
    for path in (old, foreign):
        os.utime(path, (time.time() - 7200,) * 2)
    ids(tmp_path, "some text")
    assert [path.exists() for path in (old, fresh, foreign)] == [False, True, True]


def test_builders_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    text = nonsense(2000)
    write(tmp_path, text)
    stores: list[Store] = []

    def build() -> None:
        corpus = Corpus.open([tmp_path / "text.txt"])
        stores.append(result(prepare(corpus, DataSettings(tokenizer="word"), tmp_path / "cache")))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["".join(texts(store)) for store in stores] == [text] * 4
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "file").write_text("no folder can be made in a file")
    store = result(prepare(write(tmp_path, "some text"), DataSettings(), tmp_path / "file" / "cache"))
    assert "".join(texts(store)) == "some text"
    assert list((tmp_path / "temporary").glob("*/*.ids"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_full_disk_is_an_error_that_says_where(tmp_path: Path) -> None:
    import resource

    corpus = write(tmp_path, "some text" * 10_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CorpusError, match=r"\.ids cannot be written: .*--cache-dir"):
            result(prepare(corpus, DataSettings(), tmp_path / "cache"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "cache").iterdir())


def test_a_text_that_changes_while_it_is_read_is_not_stored(tmp_path: Path) -> None:
    work = prepare(write(tmp_path, "some text"), DataSettings(), tmp_path / "cache")
    assert next(work).what == "reading"
    write(tmp_path, "some")
    with pytest.raises(CorpusError, match="changed while it was read"):
        result(work)
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_is_where_the_system_keeps_such_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "charlm"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    places = {"linux": Path.home() / ".cache", "darwin": Path.home() / "Library/Caches", "win32": tmp_path / "local"}
    for platform, place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert default_cache_dir() == place / "charlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == tmp_path / "local" / "charlm"


# Memory

PEAK = """
import resource, sys
from pathlib import Path
from charlm.config import DataSettings
from charlm.text.corpus import Corpus
from charlm.text.store import prepare
for _ in prepare(Corpus.open([sys.argv[1]]), DataSettings(), Path(sys.argv[2])):
    pass
assert "torch" not in sys.modules
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20 if sys.platform == "darwin" else 1 << 10))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    line = nonsense(100_000)
    peaks = []  # MB
    for megabytes in (6, 36):
        path = tmp_path / f"{megabytes}.txt"
        path.write_text((line * (megabytes * 1_000_000 // len(line) + 1))[: megabytes * 1_000_000], encoding="utf-8")
        command = shlex.join([sys.executable, "-c", PEAK, str(path), str(tmp_path)])
        # A shell in between, as Linux counts the peak of the process that starts another as that one's own.
        peak = subprocess.run(f"{command}; exit $?", shell=True, check=True, capture_output=True, text=True).stdout
        peaks.append(int(peak))
    assert peaks[1] < 150
    assert peaks[1] < peaks[0] + 20
