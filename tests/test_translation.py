"""Runs that read a source and write a target: trained, scored, typed at, and looked into."""

from __future__ import annotations

import gzip
import io
import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from texts import backwards

import charlm
from charlm import job
from charlm.cli.translate import blocks
from charlm.errors import CorpusError, RunError, SettingsError, VocabularyError
from charlm.events import Note, Wrote
from charlm.inside.attend import aligned, attend
from charlm.kinds._quality import by_length, quality
from charlm.plan import Plan
from charlm.progress import result
from charlm.runs import folder
from charlm.sampling.settings import TranslateSettings
from charlm.scoring import score_run
from charlm.text.pairs import PairCorpus

Typed = Callable[..., tuple[int, str, str]]
SMALL = {"arch": "seq2seq", "hidden_size": 16, "tokenizer": "char", "batch_tokens": 64, "dropout": 0.1}


def words(file: Path) -> list[str]:
    return [line.split("\t")[0] for line in file.read_text().splitlines()]


def test_it_translates_words_that_it_never_saw(translator: Path) -> None:
    held_out = words(translator.parent / "back.tsv")[-17:]
    written = [best.text for best, *_ in charlm.load(translator).translate(held_out)]
    assert sum(word == text[::-1] for word, text in zip(held_out, written, strict=True)) >= 14


@pytest.mark.parametrize("arch", ["seq2seq", "encdec"])
def test_a_resumed_training_is_the_training(arch: str, tmp_path: Path) -> None:
    plan = Plan.of({**SMALL, "arch": arch, "steps": 12, "label_smoothing": 0.1}, kind="pairs")
    corpus = PairCorpus.open([backwards(tmp_path / "back.tsv")])
    list(job.train(plan, corpus, out=tmp_path / "straight"))
    list(job.train(plan, corpus, out=tmp_path / "cut", stop_after=7))
    list(job.resume(tmp_path / "cut", changes={}))
    straight, cut = (charlm.load(tmp_path / name).model.state_dict() for name in ("straight", "cut"))
    assert all(torch.equal(straight[name], cut[name]) for name in straight)


def test_on_the_way_it_shows_translations_and_says_what_was_left_out(tmp_path: Path) -> None:
    file = backwards(tmp_path / "back.tsv")
    file.write_text(file.read_text() + "no pair\n")
    plan = Plan.of({**SMALL, "steps": 3, "max_length": 3}, kind="pairs")
    events = list(job.train(plan, PairCorpus.open([file]), out=tmp_path / "run"))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes[0] == "1 line is no pair and was left out: line 341 (has no tab)"
    assert "pairs are longer than --max-length 3" in notes[1]
    wrote = [event.text.splitlines() for event in events if isinstance(event, Wrote)]
    assert len(wrote) == 1
    assert [line.startswith("  ") for line in wrote[0]] == [False, True] * 4


def test_the_loss_of_the_targets_is_the_models_own(translator: Path) -> None:
    """Each pair alone, without padding."""
    writer = charlm.load(translator)
    made = result(score_run(translator))
    nats, tokens = 0.0, 0
    for word in words(translator.parent / "back.tsv")[255:323]:  # 20 % to validate, the last 5 % to test
        encode = lambda tokenizer, text: torch.from_numpy(tokenizer.encode(text))[None]  # noqa: E731
        source, target = encode(writer.source_tokenizer, f"{word}\n"), encode(writer.tokenizer, f"\n{word[::-1]}\n")
        with torch.no_grad():
            logits = writer.model(target[:, :-1], source=source).logits
        nats += float(torch.nn.functional.cross_entropy(logits[0], target[0, 1:], reduction="sum"))
        tokens += target.size(1) - 1
    assert made.score["tokens"] == tokens
    assert made.score["nats_per_token"] == pytest.approx(nats / tokens, rel=1e-4)
    assert made.score["bits_per_byte"] == pytest.approx(nats / math.log(2) / tokens, rel=1e-4)


def test_quality_is_what_sacrebleu_says_and_the_share_that_is_exactly_right() -> None:
    right = ["a man is riding a horse", "Two dogs run"]
    assert quality(right, right) == (1.0, pytest.approx(100), pytest.approx(100), pytest.approx(100))
    found = quality(["a man is riding a Horse", "Two dogs run"], right)
    assert found.exact == 0.5
    assert found.bleu is not None
    assert found.bleu_lower == pytest.approx(100)
    assert found.bleu < 100
    assert quality(["abc"], ["abc"]).bleu is None  # BLEU counts four words in a row


def test_bands_of_lengths_hold_every_pair_once_and_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    lengths, tokens, nats = rng.integers(1, 38, 200), rng.integers(1, 9, 200), rng.random(200)
    right = [f"target {n} of some words" for n in range(200)]
    written = [text if rng.random() < 0.5 else "wrong" for text in right]
    bands = by_length(lengths, nats, tokens, written, right)
    assert len(bands) <= 10
    assert sum(band.pairs for band in bands) == 200
    assert sum(band.exact * band.pairs for band in bands) == sum(a == b for a, b in zip(written, right, strict=True))
    for band in bands:
        here = (band.shortest <= lengths) & (lengths <= band.longest)
        assert band.pairs == here.sum()
        assert band.nats_per_token == pytest.approx(nats[here].sum() / tokens[here].sum())


def test_the_order_and_the_company_of_sources_change_no_translation(translator: Path) -> None:
    writer, sources = charlm.load(translator), words(translator.parent / "back.tsv")[:40]
    for settings in (TranslateSettings(), TranslateSettings(beam=3)):
        alone = [writer.translate([source], settings)[0][0] for source in sources]
        together = writer.translate(sources[::-1], settings)[::-1]
        assert [best.log_probability for best, *_ in together] == [
            pytest.approx(each.log_probability, abs=1e-3) for each in alone
        ]
        assert sum(best.text == each.text for (best, *_), each in zip(together, alone, strict=True)) >= 38


def test_what_is_drawn_depends_on_the_seed_and_the_number_of_the_line_alone(translator: Path) -> None:
    writer, sources = charlm.load(translator), ["abcd", "dcba"] * 5

    def draw(lines: list[str], seed: int = 1, first: int = 0) -> list[str]:
        settings = TranslateSettings("3.0", seed=seed)
        return [best.text for best, *_ in writer.translate(lines, settings, first=first)]

    whole = draw(sources)
    assert draw(sources) == whole != draw(sources, seed=2)
    assert draw(sources[:3]) + [draw([line], first=at)[0] for at, line in enumerate(sources[3:], 3)] == whole
    assert len(set(whole)) > 2  # equal sources are drawn anew


def test_what_was_written_is_one_line_and_a_long_source_says_that_it_was_cut(translator: Path) -> None:
    writer = charlm.load(translator)
    (short,), (long,) = writer.translate(["ab", "ab" * 100])
    assert (short.cut, long.cut) == (False, True)
    assert long.source.tolist()[:-1] == writer.source_tokenizer.encode("ab" * 64).tolist()
    writer.tokenizer.tokens[writer.tokenizer.encode("a")[0]] = b"\n"  # a subword vocabulary may spell it
    assert writer.translate(["bad"])[0][0].text.count("\n") == 0


def test_lines_that_were_cut_are_named(typed: Typed, heard: Callable[[str], None]) -> None:
    """By a run that reads and writes two letters, and has not learned to end."""
    backwards(Path("back.tsv"))
    typed("train", "back.tsv", "--hidden-size", 8, "--steps", 1, "--tokenizer", "char", "--max-length", 2)
    lines = ["ab", "", "abc", "a", *["dcba"] * 30]
    text = "".join(f"{line}\n" for line in lines)
    heard(text)
    told = [json.loads(line) for line in typed("translate", "--temperature", 9, "--json")[1].split("\n")[:-1]]
    assert [each["source_cut"] for each in told] == [len(line) > 2 for line in lines]
    unended = [str(n) for n, each in enumerate(told, 1) if not all(t["finished"] for t in each["translations"])]
    heard(text)
    err = typed("translate", "--temperature", 9)[2]
    assert "longer than the 2 tokens that this run reads, and cut off there: lines 3, 5, 6, 7, 8, 9," in err
    assert "12, 13 and 21 more\n" in err
    assert len(unended) > 10
    named = f"{', '.join(unended[:10])} and {len(unended) - 10} more"
    assert f"what was written had no end after 3 tokens, and was cut off there: lines {named}\n" in err
    heard("ab\nabc\n")
    assert "this run reads, and cut off there: line 2\n" in typed("translate", "--temperature", 9)[2]


def test_blanks_at_both_ends_are_read_and_written(translator: Path) -> None:
    writer = charlm.load(translator)
    (plain,), (ended,) = writer.translate(["badc", "badc\r\n"])
    assert (plain.text, plain.ids, plain.finished) == (ended.text, ended.ids, ended.finished)
    for letter, blank in (("c", b" "), ("b", b"\t")):
        writer.tokenizer.tokens[writer.tokenizer.encode(letter)[0]] = blank
    assert writer.translate(["badc"])[0][0].text == " da\t"
    with pytest.raises(VocabularyError, match="lacks ' '"):
        writer.translate([" badc"])


def test_lines_come_out_in_order_and_empty_ones_stay_empty(
    translator: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("abc\n\nd\r\n  \nab")
    code, out, err = typed("translate", translator)
    assert (code, out, err) == (0, "cba\n\nd\n\nba\n", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\rb\nc\n", ["a\rb", "c"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\r\r\nb\r", ["a\r", "b\r"]),
        ("a\rb\r\rc", ["a", "b", "", "c"]),  # an old Mac's
        ("\r", [""]),
        ("a\u2028b\x0b\n\x0c\x85c\x1c\x1d\x1e\u2029\nd", ["a\u2028b\x0b", "\x0c\x85c\x1c\x1d\x1e\u2029", "d"]),
        (" a \n\tb\n", [" a ", "\tb"]),
        ("", []),
    ],
)
def test_a_file_and_a_pipe_have_the_same_lines(text: str, expected: list[str], heard: Callable[[bytes], None]) -> None:
    Path("lines.txt").write_bytes(text.encode())
    heard(text.encode())
    for file in ("lines.txt", "-"):
        assert [line for block in blocks(file, "utf-8", whole=False) for line in block] == expected


def test_as_many_lines_are_written_as_were_read(translator: Path, typed: Typed, heard: Callable[[str], None]) -> None:
    text = "abc\rd\nd\u2028a\n\nb\x85\x0c\n"
    Path("lines.txt").write_bytes(text.encode())
    heard(text)
    for words in (["lines.txt"], []):
        code, out, _ = typed("translate", translator, *words, "--unknown", "skip")
        assert (code, out) == (0, "dcba\nad\n\nb\n")


def test_each_line_is_answered_before_the_next_is_asked(translator: Path) -> None:
    """Through a real pipe; the last line has no newline."""
    command = [sys.executable, "-m", "charlm", "translate", str(translator)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as typing:
        assert typing.stdin is not None
        assert typing.stdout is not None
        for line in ("abc", "", "d"):
            typing.stdin.write(f"{line}\n")
            typing.stdin.flush()
            assert typing.stdout.readline() == f"{line[::-1]}\n"
        typing.stdin.write("ab")
        typing.stdin.close()
        assert typing.stdout.read() == "ba\n"
    assert typing.returncode == 0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has other signals")
def test_an_interrupt_at_the_prompt_ends_quietly(translator: Path) -> None:
    command = [sys.executable, "-m", "charlm", "translate", str(translator)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as typing:  # type: ignore[call-overload]
        typing.stdin.write("abc\n")
        typing.stdin.flush()
        assert typing.stdout.readline() == "cba\n"  # it waits for the next line now
        typing.send_signal(signal.SIGINT)
        assert typing.wait(timeout=30) == 130
        assert typing.stderr.read() == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"abc\nd\n\xff\nab\n", "standard input is not utf-8: line 3, byte 6 is 0xff"),
        ("abc\nd\naxc\nab\n", "line 3: the vocabulary lacks 'x'"),
    ],
)
def test_lines_before_a_bad_one_are_not_lost(
    given: str | bytes, message: str, translator: Path, typed: Typed, heard: Callable[[str | bytes], None]
) -> None:
    heard(given)
    code, out, err = typed("translate", translator)
    assert (code, out) == (2, "cba\nd\n")
    assert message in err


class Keyboard(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_what_is_piped_is_spelled_as_the_text_and_what_is_typed_as_the_terminal_has_it(
    heard: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(encoding: str | None) -> list[str]:
        return [line for block in blocks("-", encoding, whole=False) for line in block]

    for encoding in ("latin-1", "utf-8", "utf-16", "utf-16-le", "utf-32"):
        text = "Grüße\r\nü" if encoding == "latin-1" else "Grüße\r\nĊ"  # the bytes of Ċ hold that of a newline
        heard(text.encode(encoding))
        assert lines(encoding) == text.split("\r\n")
    heard("abc\n\ud800".encode("utf-16-le", "surrogatepass"))
    with pytest.raises(CorpusError, match="standard input is not utf-16-le"):
        lines("utf-16-le")
    monkeypatch.setattr("sys.stdin", Keyboard(io.BytesIO("Grüße\n".encode("cp850")), "cp850"))
    assert lines(None) == ["Grüße"]


def test_a_file_may_be_compressed_and_begin_with_a_mark(translator: Path, typed: Typed) -> None:
    Path("lines.txt.gz").write_bytes(gzip.compress("\ufeffabc\r\nd".encode()))
    assert typed("translate", translator, "lines.txt.gz")[:2] == (0, "cba\nd\n")


def test_a_file_alone_is_translated_by_the_last_run(translator: Path, typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copytree(translator, tmp_path / "runs" / "mine")
    (tmp_path / "lines.txt").write_text("abc\n")
    assert typed("translate", "lines.txt")[:2] == (0, "cba\n")
    assert typed("translate", "mine", "lines.txt", "--beam", "2", "--json")[0] == 0


def test_n_best_and_json_tell_log_probabilities(translator: Path, typed: Typed, heard: Callable[[str], None]) -> None:
    heard("abc\n")
    _, out, _ = typed("translate", translator, "--beam", 4, "--n-best", 3)
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[0][2] == "cba"
    heard("abc\n")
    _, out, _ = typed("translate", translator, "--beam", 4, "--n-best", 3, "--json")
    said = json.loads(out)
    assert said["source"] == "abc"
    assert [t["text"] for t in said["translations"]] == [row[2] for row in rows]
    assert float(rows[0][1]) == pytest.approx(said["translations"][0]["log_probability"], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--beam", "2", "--temperature", "0.5"], "--beam looks for the likeliest line and --temperature draws one"),
        (["--seed", "2"], "--seed is for lines that are drawn"),
        (["--top-k", "2"], "--top-k is for lines that are drawn"),
        (["--novel", "9"], "--novel is no option of charlm translate; it belongs to charlm sample"),
        (["--n-best", "2"], "--n-best 2 is more than --beam 1"),
        (["nowhere.txt"], "there is no file nowhere.txt"),
        (["--seed", 2**70], "--seed must be at most 9223372036854775807, got"),
        (["--length-penalty", "1"], "give a --beam above 1"),
        (["--attention-map", "x.bmp"], "names no kind of picture"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str], message: str, translator: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("abc\n")
    code, _, err = typed("translate", translator, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_more_lines_than_beams_are_refused(translator: Path) -> None:
    assert charlm.load(translator).translate([], TranslateSettings(beam=4, n_best=4)) == []
    with pytest.raises(SettingsError, match="--n-best 5 is more than --beam 4 can find; give --beam 5 or more"):
        TranslateSettings(beam=4, n_best=5)


def test_a_character_that_the_run_never_saw_is_named(
    translator: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("axc\n")
    assert "lacks 'x'" in typed("translate", translator)[2]
    heard("axc\n")
    assert typed("translate", translator, "--unknown", "skip")[:2] == (0, "ca\n")


def test_the_alignment_of_a_line_is_drawn_and_saved(
    translator: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("abcd\n")
    code, out, err = typed("translate", translator, "--attention-map", "-")
    assert (code, out) == (0, "dcba\n")
    assert [line.split()[0] for line in err.splitlines()[-5:]] == ["d", "c", "b", "a", "↵"]
    for file in ("map.json", "map.svg", "map.png", "map.html"):
        heard("abcd\n")
        assert typed("translate", translator, "--attention-map", file)[0] == 0
        assert Path(file).stat().st_size > 500
    said = json.loads(Path("map.json").read_text())
    assert (said["rows"], said["columns"]) == (["d", "c", "b", "a", "\n"], ["a", "b", "c", "d", "\n"])
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in said["weights"])
    heard("\n")
    assert "there was no line to draw" in typed("translate", translator, "--attention-map", "map.svg")[2]
    heard("ab\ncd\n")
    assert "holds one line, 2 were given" in typed("translate", translator, "--attention-map", "map.svg")[2]


def test_an_alignment_is_of_what_was_read_and_written_cut_off_or_empty(translator: Path) -> None:
    writer = charlm.load(translator)
    (long,) = writer.translate(["ab" * 100])[0]
    for ids, finished in ((long.ids, long.finished), (long.ids[:1] * 129, False), ([], True)):
        found = aligned(writer, long.source, ids, finished=finished)
        assert (len(found.rows), len(found.columns)) == (len(ids) + finished, 129)


def test_attend_names_what_is_being_written_and_wants_a_source(translator: Path, typed: Typed) -> None:
    found = attend(charlm.load(translator), "cba", source="abc")
    assert found.rows == ["c", "b", "a", "\n"]
    assert found.columns == ["a", "b", "c", "\n"]
    assert "give what it reads with --source" in typed("attend", translator, "--text", "cba")[2]


def test_eval_scores_other_pairs_and_its_own_and_draws_the_lengths(translator: Path, typed: Typed) -> None:
    code, out, _ = typed("eval", translator, "--split", "test", "--beam", 2)
    assert code == 0
    assert "percent exactly right" in out
    assert "tokens of the source" in out
    Path("more.tsv").write_text("abc\tcba\nab\tbb\nnothing\n")
    code, out, err = typed("eval", translator, "--pairs", "more.tsv", "--json")
    said = json.loads(out)
    assert (code, said["exact"]) == (0, 0.5)
    assert "line 3 (has no tab)" in err
    assert said["pairs"] == 2
    assert [band["pairs"] for band in said["by_source_length"]] == [1, 1]


def test_a_running_text_is_not_what_it_is_scored_on(translator: Path, typed: Typed, tmp_path: Path) -> None:
    code, _, err = typed("eval", translator, "--text", backwards(tmp_path / "back.tsv"))
    assert code == 2
    assert "trained on pairs" in err


def test_targets_that_were_piped_are_not_waited_for_at_a_terminal(
    translator: Path, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(translator, tmp_path / "piped")
    config = folder.read_json(tmp_path / "piped" / "config.json")
    config["corpus"]["targets"] = ["-"]
    folder.write_json(tmp_path / "piped" / "config.json", config)
    monkeypatch.setattr("sys.stdin", Keyboard(io.BytesIO()))
    assert "trained on standard input; pipe the same in again" in typed("eval", "piped")[2]


def test_last_and_best_are_looked_for_among_runs_of_the_kind(translator: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name, run in (("a", trained), ("b", translator)):
        shutil.copytree(run, tmp_path / "runs" / name)
    for name in ("last", "best"):
        assert folder.find(name, kind="pairs").name == "b"
        assert folder.find(name, kind="text").name == "a"
    shutil.rmtree(tmp_path / "runs" / "b")
    with pytest.raises(RunError, match="none of the 1 runs here was trained on pairs"):
        folder.find("last", kind="pairs")


def test_a_run_with_settings_that_its_architecture_lacks_is_of_another_charlm(translator: Path, tmp_path: Path) -> None:
    shutil.copytree(translator, tmp_path / "old")
    config = folder.read_json(tmp_path / "old" / "config.json")
    del config["model"]["bidirectional"]
    folder.write_json(tmp_path / "old" / "config.json", config)
    with pytest.raises(RunError, match="a run of this charlm: its seq2seq has other settings"):
        charlm.load(tmp_path / "old")


def test_a_run_of_running_text_translates_nothing_and_says_so(
    trained: Path, typed: Typed, heard: Callable[[str], None]
) -> None:
    heard("abc\n")
    for command in (["translate", trained], ["eval", trained, "--pairs", backwards(Path("b.tsv"))]):
        code, _, err = typed(*command)
        assert code == 2
        assert "running text" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["back.tsv", "--arch", "seq2seq", "--seq-len", "8"],
            "--seq-len is for running text; for pairs of source and target there are",
        ),
        (["text.txt", "--arch", "seq2seq", "--max-length", "8"], "--max-length is for pairs of source and target"),
        (["text.txt", "--max-length", "8"], "or for pairs of source and target: a .tsv or .jsonl file, with --arch"),
        (["back.tsv", "text.txt", "--arch", "seq2seq"], "some are pairs and some running text"),
        (["back.tsv", "--alphabet", "printable"], "--alphabet printable changes what is to be written"),
        (["back.tsv", "--schedule", "inverse-sqrt", "--warmup", "0"], "give a --warmup above 0"),
        (["--source", "a"], "pairs are one file of two columns, or two files"),
        (["back.tsv", "--source", "a", "--target", "b"], "pairs are one file of two columns, or two files"),
        (["--source", "text.txt", "--target", "text.txt", "--arch", "lstm"], "lstm reads no pairs"),
    ],
)
def test_settings_of_the_other_kind_of_text_are_refused(words: list[str], message: str, typed: Typed) -> None:
    backwards(Path("back.tsv"))
    Path("text.txt").write_text("some text\n" * 20)
    code, _, err = typed("train", *words)
    assert code == 2
    assert message in err


def test_a_file_that_is_named_as_pairs_is_trained_on_by_an_encoder_and_decoder(typed: Typed) -> None:
    backwards(Path("back.tsv"))
    code, out, _ = typed("train", "back.tsv", "--hidden-size", 8, "--steps", 1, "--tokenizer", "char")
    assert code == 0
    assert "model: seq2seq" in out
    out = typed("train", "back.tsv", "--arch", "lstm", "--hidden-size", 8, "--steps", 1)[1]
    assert "note: back.tsv holds pairs of source and target, of which lstm reads the lines as they stand" in out
    assert "model: lstm" in out


def test_training_from_the_shell_reads_two_files_and_says_how_to_go_on(typed: Typed) -> None:
    words = ["ab", "ba", "aab", "b", "abab"] * 8
    Path("a.txt").write_text("".join(f"{word}\n" for word in words))
    Path("b.txt").write_text("".join(f"{word[::-1]}\n" for word in words))
    small = ["--hidden-size", 8, "--steps", 2, "--tokenizer", "char"]
    code, out, _ = typed("train", "--source", "a.txt", "--target", "b.txt", *small)
    assert code == 0
    assert "text: 36 train, 2 validation, 2 test pairs" in out
    assert "next: charlm translate" in out
    assert typed("eval", "--json")[0] == 0
