"""Which of several answers is likeliest, and how often that is the right one."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import charlm
from charlm.errors import CorpusError, SettingsError
from charlm.inside.choose import (
    MEASURES,
    Answered,
    Answers,
    Choice,
    Question,
    choose,
    draw,
    encode,
    question_of,
    read_questions,
    split,
    wilson,
)
from charlm.progress import result
from charlm.text.byte_bpe import ByteBPE
from charlm.text.printed import printed
from charlm.text.tokenizers import BYTES
from charlm.views.choose import accuracies, ranking
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]
PROMPT = "abc ("
QUESTIONS = [
    Question(PROMPT, ["ab)", "ba)", "e"], 0),
    Question("abc ( ", ["ab)", "ba)"], 1),
    Question("", ["A", "B"], 1),
    Question("a" * 12, ["bcd", "dcb"], 0),
]


def write(path: str, questions: list[Question]) -> str:
    Path(path).write_text("".join(json.dumps(question._asdict()) + "\n" for question in questions))
    return path


@torch.no_grad()
def cost(writer: Writer, context: str, text: str) -> float:
    """The log-probability of `text` after a newline and the context, one row, nothing beside it."""
    ids = torch.from_numpy(writer.tokenizer.encode("\n" + context + text))[None]
    logprobs = writer.model(ids[:, :-1]).logits.log_softmax(-1).gather(2, ids[:, 1:, None])
    return float(logprobs[0, len(context) :].sum())


@pytest.mark.parametrize("arch", ["lstm", "transformer", "encdec"])
def test_each_choice_has_the_log_probability_that_the_model_gives_it(build: Build, arch: str) -> None:
    """Side by side with others of any length, as alone."""
    writer = build(arch, seq_len=32)
    found = result(choose(writer, QUESTIONS, neutral="cab"))
    assert found.too_long == 0
    for question, answered in zip(QUESTIONS, found.answered, strict=True):
        for text, choice in zip(question.choices, answered.choices, strict=True):
            context = question.prompt.rstrip()
            scored = question.prompt[len(context) :] + text
            assert choice.text == text
            assert choice.log_probability == pytest.approx(cost(writer, context, scored), abs=1e-4)
            assert choice.per_byte == pytest.approx(choice.log_probability / len(scored), abs=1e-6)
            assert choice.gain == pytest.approx(choice.log_probability - cost(writer, "cab", scored), abs=1e-4)


def test_a_blank_page_is_neutral(build: Build) -> None:
    (answered,) = result(choose(build("lstm"), [Question("", ["a", "b"])])).answered
    assert [choice.gain for choice in answered.choices] == [0, 0]


def test_examples_stand_before_every_prompt_with_their_answers(build: Build) -> None:
    writer = build("lstm", seq_len=64)
    shots = [Question("ab", ["c", "d"], 1), Question("de", ["A", "B"], 0)]
    (answered,) = result(choose(writer, [Question("ba", ["c", "d"])], shots=shots)).answered
    assert answered.choices[0].log_probability == pytest.approx(cost(writer, "abd\ndeA\nba", "c"), abs=1e-4)


def test_a_prompt_beyond_the_window_is_counted(build: Build) -> None:
    questions = [Question("a" * 13, ["bcd", "dcb"]), Question("a" * 14, ["bcd", "dcb"])]
    assert result(choose(build("transformer", seq_len=16), questions)).too_long == 1
    assert result(choose(build("lstm", seq_len=16), questions)).too_long == 0


def test_blanks_at_the_end_of_a_prompt_belong_to_the_choice_and_tokens_are_those_of_both_together() -> None:
    assert split("Peg is ", "wet") == ("Peg is", " wet")
    assert split("Peg is", " wet") == ("Peg is", " wet")
    tokens = [*BYTES, b" w", b" we", b" wet", b"is"]
    merges = [(ord(" "), ord("w")), (256, ord("e")), (257, ord("t")), (ord("i"), ord("s"))]
    tokenizer = ByteBPE([printed(token) for token in tokens], merges)
    ids, first = encode(tokenizer, "Peg is", " wet")
    assert (ids[first:].tolist(), ids[first - 1]) == ([258], 259)
    ids, first = encode(tokenizer, "Peg i", "s wet")  # the token that spans both is of the choice
    assert ids[first:].tolist() == [259, 258]
    assert encode(tokenizer, "", " wet")[1] == 0


def test_wilsons_interval_is_the_one_in_the_books() -> None:
    """Both ends are where a normal test with the share itself as its hypothesis just does not reject."""
    for right, count in ((0, 10), (3, 10), (50, 80), (10, 10)):
        value, low, high = wilson(right, count)
        assert 0 <= low <= value <= high <= 1
        for end in (low, high):
            if not 1e-9 < end < 1 - 1e-9:
                assert end == value
                continue
            assert abs(value - end) / math.sqrt(end * (1 - end) / count) == pytest.approx(1.959964)


def test_accuracies_and_baselines_are_shares_of_right_answers() -> None:
    def answered(answer: int, values: list[tuple[float, float, float]]) -> Answered:
        texts = ["yes", "no"]
        return Answered(
            Question("?", texts, answer), [Choice(text, *each) for text, each in zip(texts, values, strict=True)]
        )

    first, second = (-1.0, -0.5, 0.1), (-2.0, -0.4, 0.3)
    found = Answers([answered(0, [first, second]), answered(1, [first, second]), answered(0, [second, first])], [], 0)
    assert {measure: accuracy.value for measure, accuracy in found.accuracies().items()} == pytest.approx(
        {"log_probability": 1 / 3, "per_byte": 2 / 3, "gain": 2 / 3}
    )
    assert found.baselines() == pytest.approx({"chance": 1 / 2, "majority": 2 / 3})
    last = found._replace(shots=[Question("a", ["yes", "no"], 0), Question("b", ["no", "yes"], 0)])
    assert last.baselines()["copy the last"] == pytest.approx(1 / 3)


def unread(questions: list[Question]) -> list[Answered]:
    return [Answered(question, []) for question in questions]


def test_where_each_question_has_its_own_choices_an_answer_is_known_by_its_position_alone() -> None:
    asked = unread([Question("?", [f"a{n}", f"b{n}", f"c{n}"], position) for n, position in enumerate((2, 0, 2, 1))])
    assert Answers(asked, [], 0).baselines() == pytest.approx({"chance": 1 / 3, "commonest position": 1 / 2})
    shots = [Question("!", ["x", "y"], 0), Question("!", ["x", "y"], 1)]
    assert Answers(asked, shots, 0).baselines()["position of the last"] == 1 / 4


def test_equal_choices_share_what_is_right_wherever_the_answer_stands() -> None:
    def answered(answer: int, *gains: float) -> Answered:
        texts = ["a", "b", "c"]
        choices = [Choice(text, gain, gain, gain) for text, gain in zip(texts, gains, strict=True)]
        return Answered(Question("?", texts, answer), choices)

    assert answered(0, 1.0, 2.0, 2.0).best("gain") == [1, 2]
    assert [answered(n, 1.0, 2.0, 2.0).right("gain") for n in range(3)] == [0, 1 / 2, 1 / 2]
    assert [answered(n, 0.0, 0.0, 0.0).right("gain") for n in range(3)] == [1 / 3] * 3
    assert [answered(n, 1.0, 3.0, 2.0).right("gain") for n in range(3)] == [0, 1, 0]


def test_prompts_that_say_nothing_add_nothing_and_are_right_by_chance(typed: Typed, trained: Path) -> None:
    """Even if the answer stands first in all of them."""
    file = write("q.jsonl", [Question("", choices, 0) for choices in ([" wet", " dry"], [" in", " out", " up", " on"])])
    found = json.loads(typed("choose", trained, "--questions", file, "--json")[1])
    assert [question["best"]["gain"] for question in found["questions"]] == [[0, 1], [0, 1, 2, 3]]
    assert found["accuracy"]["gain"]["value"] == found["baselines"]["chance"] == (1 / 2 + 1 / 4) / 2
    out = typed("choose", trained, "--choice", " wet", "--choice", " dry")[1]
    assert out.count("* 0.000") == 2  # both are marked


def test_examples_are_drawn_by_the_seed_with_labels_balanced_and_never_those_that_are_asked() -> None:
    pool = [Question(f"p{n}", ["yes", "no"], int(n % 5 == 0)) for n in range(50)]
    asked = pool[:20]
    drawn = draw(pool, 8, asked, 3)
    assert Counter(question.label for question in drawn) == {"yes": 4, "no": 4}
    assert not {question.prompt for question in drawn} & {question.prompt for question in asked}
    assert draw(pool, 8, asked, 3) == drawn != draw(pool, 8, asked, 4)
    assert Counter(question.label for question in draw(pool, 20, asked, 3)) == {"yes": 14, "no": 6}  # all six are there
    with pytest.raises(SettingsError, match="--shots 31 needs as many examples that are not asked; --examples has 30"):
        draw(pool, 31, asked, 0)
    with pytest.raises(SettingsError, match="an example needs an answer; 'q' has none"):
        draw([Question("q", ["a", "b"])], 1, [], 0)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nonsense", r"must be {\"prompt\""),
        ('{"choices": ["a", "b"]}', r"must be {\"prompt\""),
        ('{"prompt": "p"}', "choices must be a list of texts, got None"),
        ('{"prompt": "p", "choices": ["a", 1]}', "choices must be a list of texts"),
        ('{"prompt": "p", "choices": ["a"]}', "needs two choices or more, got 1"),
        ('{"prompt": "p", "choices": ["a", "a"]}', "choices must be different texts"),
        ('{"prompt": "p", "choices": ["a", ""]}', "none of them empty"),
        ('{"prompt": "p", "choices": ["a", "b"], "answer": 2}', "one of the choices or an index below 2, got 2"),
        ('{"prompt": "p", "choices": ["a", "b"], "answer": true}', "got True"),
        ('{"prompt": "p", "choices": ["a", "b"], "answer": "c"}', "got 'c'"),
    ],
)
def test_a_line_that_is_no_question_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "p", "choices": ["a", "b"], "answer": "b"}\n\n' + line + "\n")
    with pytest.raises(CorpusError, match=f"q.jsonl: line 3: .*{complaint}"):
        read_questions(str(file), "utf-8")


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ((0, 1, None, 0), "line 3: has no answer, and the questions before it have one; answer all of them, or none"),
        ((None, 1, 0), "line 2: has an answer, and the questions before it have none"),
    ],
)
def test_all_questions_of_a_file_have_an_answer_or_none_has(answers: tuple[int | None, ...], complaint: str) -> None:
    file = write("q.jsonl", [Question(f"p{n}", ["a", "b"], answer) for n, answer in enumerate(answers)])
    with pytest.raises(CorpusError, match=f"q.jsonl: {complaint}"):
        read_questions(file, "utf-8")


def test_an_answer_is_an_index_or_the_text() -> None:
    value: dict[str, Any] = {"prompt": "p", "choices": ["a", "b"]}
    assert [question_of(value | {"answer": answer}).answer for answer in (1, "b", None)] == [1, 1, None]


def test_the_command_shows_each_choice_and_marks_the_likeliest(typed: Typed, trained: Path) -> None:
    line = ["choose", trained, "--prompt", "WICK:\nThe lamp is", "--choice", " out", "--choice", " eoi"]
    code, out, error = typed(*line)
    assert (code, error) == (0, "")
    assert out.count("*") >= 3
    found = json.loads(typed(*line, "--json")[1])
    writer = charlm.load(trained)
    expected = [cost(writer, "WICK:\nThe lamp is", text) for text in (" out", " eoi")]
    assert [one["log_probability"] for one in found["questions"][0]["choices"]] == pytest.approx(expected, abs=1e-4)
    assert found["questions"][0]["best"] == {measure: [0] for measure in MEASURES}
    assert found["accuracy"] == {}


def test_the_command_answers_a_file_with_examples_before_each_prompt(typed: Typed, trained: Path) -> None:
    questions = [Question(f"PEG: {c} is", [" wet", " dry"], n % 2) for n, c in enumerate("aeinot")]
    examples = write("e.jsonl", [Question(f"WICK: {c} is", [" wet", " dry"], n % 2) for n, c in enumerate("aeinot")])
    line = ["choose", trained, "--questions", write("q.jsonl", questions), "--shots", "2", "--examples", examples]
    code, out, error = typed(*line)
    assert (code, error) == (0, "")
    for words in [*MEASURES.values(), "chance", "majority", "copy the last", "6 questions, 2 shots; gain: what the"]:
        assert words in out
    found = json.loads(typed(*line, "--json")[1])
    assert found["baselines"] == {"chance": 0.5, "majority": 0.5, "copy the last": 0.5}
    assert len(found["questions"]) == 6
    assert [shot["answer"] for shot in found["shots"]] in ([0, 1], [1, 0])


def test_without_answers_the_command_shows_what_is_chosen_after_the_beginning_of_each_prompt(
    typed: Typed, trained: Path
) -> None:
    long = Question("PEG: The lamp is out, the tide is in, and the bench is" + " wet" * 99, [" in", " out"])
    code, out, error = typed("choose", trained, "--questions", write("q.jsonl", [long, Question("", [" in", " out"])]))
    assert (code, error) == (0, "")
    head, first, second, caption = out.splitlines()
    assert head.split("  ")[0] == "prompt"
    assert first.startswith("PEG: The lamp is out, the tid…  ")
    assert first.split()[-1] in ("in", "out")
    assert second.endswith("   in or  out")  # an empty prompt adds as much to both
    assert caption == "gain: what the prompt adds over a neutral one"
    assert [line.rstrip() for line in (head, first, second)] == [head, first, second]


def test_long_prompts_and_choices_leave_room_for_what_is_said_of_them() -> None:
    choices = [Choice("x" * 300, -1.25, -0.5, 0.75), Choice("y", -2.0, -1.0, 0.25)]
    answered = Answered(Question("word " * 100, [choice.text for choice in choices]), choices)
    for view, shown in ((ranking(answered), "* -1.250"), (accuracies(Answers([answered], [], 0)), "gain")):
        console = Console(file=StringIO(), width=80, record=True)
        console.print(view)
        assert shown in console.export_text()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ([], 'give --prompt TEXT --choice "A" --choice "B", or --questions FILE'),
        (["--prompt", "a", "--choice", "b"], "needs two choices or more, got 1"),
        (["--prompt", "a", "--questions", "q.jsonl"], "--prompt is for --choice"),
        (["--choice", "a", "--choice", "b", "--shots", "2"], "belong together"),
        (["--choice", "a", "--choice", "b", "--encoding", "latin-1"], "is for a text that is read"),
        (["--questions", "none.jsonl"], "none.jsonl"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    typed: Typed, trained: Path, line: list[str], complaint: str
) -> None:
    code, _, error = typed("choose", trained, *line)
    assert code == 2
    assert complaint in error
    assert error.count("\n") == 1


def test_the_bundled_questions_are_about_what_is_held_out_of_the_play() -> None:
    corpora = Path(__file__).parents[2] / "corpora"
    play, questions = (
        (corpora / "saltmere.txt").read_text(),
        read_questions(str(corpora / "saltmere-endings.jsonl"), "utf-8"),
    )
    assert len(questions) == 40
    assert all(question.prompt + question.label in play[-len(play) // 20 :] for question in questions)
    assert Counter(question.answer for question in questions) == dict.fromkeys(range(4), 10)
