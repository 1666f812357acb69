"""Labelled texts: which files are, how they are read and split, and their batches."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from small_runs import labelled_words

from charlm import kinds
from charlm.config import PAD, TrainSettings
from charlm.errors import CorpusError
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.text.label_store import LabelSettings, LabelStore, prepare_labels, read_labels
from charlm.text.labels import LabelCorpus

NOTES = [("It rains, again.", "weather"), ('He said "salt".', "food"), ("Who won?", "sport")]


def corpus(path: Path, text: str) -> LabelCorpus:
    path.write_text(text, encoding="utf-8")
    return LabelCorpus(Corpus.open([path]))


def store(path: Path, **settings: object) -> LabelStore:
    return result(prepare_labels(corpus(path, labelled_words(300)), LabelSettings(**settings)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "".join(f"{text}\t{label}\n" for text, label in NOTES)),
        ("b.tsv", "label\tno\ttext\n" + "".join(f"{label}\t1\t {text}\n" for text, label in NOTES)),
        ("c.csv", 'text,label\n"It rains,\n again.",weather\n"He said ""salt"".",food\nWho won?,sport\n'),
        ("d.csv", 'Label;Text\nweather;It rains, again.\nfood;"He said ""salt""."\nsport;Who won?\n'),
        ("e.jsonl", "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in NOTES)),
    ],
)
def test_every_form_holds_the_same_texts_and_labels(tmp_path: Path, name: str, text: str) -> None:
    assert [(item.text.replace(",  ", ", "), item.label) for item in corpus(tmp_path / name, text)] == NOTES


def test_two_texts_are_one_with_a_tab_and_a_number_or_a_truth_value_is_a_label(tmp_path: Path) -> None:
    lines = [{"text_a": "A dog.", "text_b": "An animal.", "label": 1}, {"text_a": "x", "text_b": "y", "label": False}]
    read = corpus(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert [tuple(item) for item in read] == [("A dog.\tAn animal.", "1"), ("x\ty", "false")]
    assert [tuple(item) for item in corpus(tmp_path / "b.tsv", "a\tb\tc\n")] == [("a\tb", "c")]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.tsv", labelled_words(40), "labels"),
        ("a.tsv", "".join(f"word {n}\tWort {n}\n" for n in range(40)), "pairs"),
        ("a.tsv", "yes\tno\n", "pairs"),
        ("a.labels.tsv", "yes\tno\n", "labels"),
        ("a.tsv", "text\tlabel\nyes\tno\n", "labels"),
        ("a.csv", "label,text\nx,y\n", "labels"),
        ("a.csv", "source,target\nx,y\n", "pairs"),
        ("a.csv", "title,text\nx,y\n", "text"),
        ("a.jsonl", '{"text": "x", "label": 0}\n', "labels"),
        ("a.jsonl", '{"text": "x"}\n', "text"),
        ("a.txt", labelled_words(40), "labels"),
        ("a.txt", "Once\nupon\n", "text"),
    ],
)
def test_the_first_lines_say_whether_a_file_is_labelled(tmp_path: Path, name: str, text: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert kinds.claimant(Corpus.open([path])).name() == kind
    if path.suffix != ".txt":  # of which a command line does not look inside to choose an architecture
        assert kinds.named(["train", str(path)], "utf-8").name() == kind


def test_a_line_that_is_no_labelled_text_is_left_out_and_named(tmp_path: Path) -> None:
    table = corpus(tmp_path / "a.tsv", "one\tx\nno tab\n\ntwo\ty\n\tx\nthree\t \na\tb\tc\n")
    assert [item.text for item in table] == ["one", "two"]
    (counts, broken) = table.notes
    assert counts == "2 labelled texts of 2 classes: x 1, y 1"
    named = "2 (has no tab), 3 (is empty), 5 (has no text), 6 (has no label), 7 (has 3 columns and not 2)"
    assert broken == f"5 lines are no labelled text and were left out: line {named}"
    quoted = corpus(tmp_path / "b.csv", 'text,label\n"a\nb",x\n,y\n')
    assert quoted.notes[-1] == "1 line is no labelled text and was left out: line 4 (has no text)"
    records = corpus(tmp_path / "c.jsonl", '{"text": "a", "label": "x"}\n["a", "x"]\n{"text": 3, "label": "x"}\n')
    assert "line 2 (is no JSON object), 3 (has no text)" in records.notes[-1]


def test_of_every_class_the_same_share_is_held_out_and_a_seed_says_which(tmp_path: Path) -> None:
    made = store(tmp_path / "a.tsv", val_frac=0.2, test_frac=0.1)
    parts = made.train, made.validation, made.test
    counts = np.array([np.bincount(part.labels) for part in parts])
    shares = counts / counts.sum(0)
    assert np.abs(shares - [[0.7], [0.2], [0.1]]).max() < 0.01
    assert sorted(np.concatenate([part.numbers for part in parts])) == list(range(300))
    again, other = (store(tmp_path / "a.tsv", val_frac=0.2, test_frac=0.1, split_seed=seed) for seed in (0, 1))
    assert np.array_equal(made.test.numbers, again.test.numbers)
    assert not np.array_equal(made.test.numbers, other.test.numbers)


def test_fewer_to_learn_from_are_of_all_classes_and_the_same_are_held_out(tmp_path: Path) -> None:
    whole, few = store(tmp_path / "a.tsv"), store(tmp_path / "a.tsv", label_count=30)
    assert few.train.count == pytest.approx(30, abs=2)
    assert np.bincount(few.train.labels).min() >= 8
    assert np.isin(few.train.numbers, whole.train.numbers).all()
    assert np.array_equal(few.validation.numbers, whole.validation.numbers)


def test_a_label_stays_with_its_text_and_an_epoch_shows_each_once(tmp_path: Path) -> None:
    made = store(tmp_path / "a.tsv", batch_tokens=64)
    batches, shown = made.batches(TrainSettings()), list[tuple[str, str]]()
    for number in range(batches.per_epoch):
        (labels, texts), fresh = batches.batch(number)
        assert fresh
        assert texts.size <= 64 + len(texts)  # a newline stands before each
        for (label,), row in zip(labels, texts, strict=True):
            ids = row[row != PAD]
            newline = made.tokenizer.newline
            assert (ids[0], ids[-1]) == (newline, newline)
            shown.append((made.tokenizer.decode(ids[1:-1].tolist()), made.vocabularies.classes[label]))
    items = list(LabelCorpus(Corpus.open([tmp_path / "a.tsv"])))
    assert Counter(shown) == Counter(tuple(items[number]) for number in made.train.numbers)


def test_a_long_text_is_read_up_to_the_limit(tmp_path: Path) -> None:
    long = corpus(tmp_path / "a.tsv", "abcdefgh\tx\nab\ty\nabcdefgh\tx\nab\ty\n")
    made = result(prepare_labels(long, LabelSettings(max_length=5, val_frac=0.0, test_frac=0.0)))
    assert made.train.words(made.tokenizer, 2) == ["abcde", "ab"]
    assert made.train.texts.sizes.tolist() == [6, 3, 6, 3]
    assert "2 texts are longer than --max-length 5 tokens, and are read so far only" in made.notes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("one\tx\ntwo\tx\n", "have the label 'x'; there must be two labels or more"),
        ("one\tx\ntwo\ty\nthree\tz\n", "has 3 different labels for 3 texts; if these are pairs"),
        ("one\ntwo\n", "holds no labelled text: line 1 has no tab"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(CorpusError, match=why):
        result(prepare_labels(corpus(tmp_path / "a.tsv", text), LabelSettings()))


def test_other_texts_are_read_with_a_runs_classes_and_another_label_is_named(tmp_path: Path) -> None:
    made, (item, *_) = store(tmp_path / "a.tsv"), corpus(tmp_path / "a.tsv", labelled_words(300))
    other = corpus(tmp_path / "b.tsv", f"{item.text}\t{item.label}\n")
    read = result(read_labels(other, made.settings, made.vocabularies))
    assert [made.vocabularies.classes[label] for label in read.train.labels] == [item.label]
    strange = corpus(tmp_path / "c.tsv", f"{item.text}\t{item.label}\n{item.text}\tghost\n")
    with pytest.raises(CorpusError, match="line 2 has the label 'ghost', which this run does not know; it knows bird"):
        result(read_labels(strange, made.settings, made.vocabularies))


def test_held_out_texts_that_can_be_known_by_heart_are_counted(tmp_path: Path) -> None:
    lines = [f"word {n % 20}\t{'even' if n % 2 else 'odd'}\n" for n in range(200)] + ["word 1\todd\n"]
    Random(0).shuffle(lines)
    notes = result(prepare_labels(corpus(tmp_path / "a.tsv", "".join(lines)), LabelSettings())).notes
    assert any("held-out texts stand in the training part too" in note for note in notes)
    assert any(note.startswith("1 text has several labels") for note in notes)


def test_the_bundled_notes_are_labelled_balanced_and_each_its_own() -> None:
    notes = LabelCorpus(Corpus.open([Path(__file__).parents[2] / "corpora" / "notes.tsv"]))
    counts = notes.counts
    assert counts.total() >= 2000
    assert len(counts) == 6
    assert min(counts.values()) > 0.9 * max(counts.values())
    assert len({item.text.casefold() for item in notes}) == counts.total()
    runs = Counter[tuple[str, ...]]()
    for item in notes:
        words = "".join(c for c in item.text.lower() if c.isalnum() or c == " ").split()
        runs.update({tuple(words[start : start + 6]) for start in range(len(words) - 5)})
    assert sum(count > 1 for count in runs.values()) < 5
