"""Which of several answers a model finds likeliest after a prompt: zero-, one- and few-shot questions.

Brown et al., "Language Models are Few-Shot Learners" (2020, arXiv:2005.14165, section 2.4). A choice is ranked by its
log-probability after the prompt, by that per byte, and by its gain: what the prompt adds to it over a neutral one. The
last two make up for long and for rare choices in different ways.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from charlm.errors import CorpusError, SettingsError
from charlm.evaluate import ROWS, next_nats
from charlm.progress import Progress
from charlm.text.corpus import Corpus
from charlm.text.records import lines, parse_json
from charlm.text.tokenizers import Tokenizer, utf8
from charlm.text.units import Ids
from charlm.writer import Writer

MEASURES = {"log_probability": "log-probability", "per_byte": "per byte", "gain": "gain"}  # field -> in words
BATCH_TOKENS = 1 << 14  # that are scored at once
QUANTILE = 1.959964  # of the normal distribution, for intervals of 95 %


class Question(NamedTuple):
    prompt: str
    choices: list[str]
    answer: int | None = None  # the index of the right choice

    @property
    def label(self) -> str:
        assert self.answer is not None
        return self.choices[self.answer]


class Choice(NamedTuple):
    """What a model says of a choice, in nats."""

    text: str
    log_probability: float  # after the prompt
    per_byte: float
    gain: float  # minus the log-probability after the neutral prompt


class Answered(NamedTuple):
    question: Question
    choices: list[Choice]

    def best(self, measure: str) -> list[int]:
        """The indices of the choices that are highest by one of `MEASURES`: more than one where these are equal."""
        values = [getattr(choice, measure) for choice in self.choices]
        highest = max(values)
        return [index for index, value in enumerate(values) if value == highest]

    def right(self, measure: str) -> float:
        """1 if the best choice is the answer, 0 if it is not; of several that are equal, the chance to draw it."""
        best = self.best(measure)
        return 1 / len(best) if self.question.answer in best else 0.0


class Accuracy(NamedTuple):
    """A share of right answers, with its 95 % interval."""

    value: float
    low: float
    high: float


class Answers(NamedTuple):
    answered: list[Answered]
    shots: list[Question]  # the examples before every prompt
    too_long: int  # prompts with a choice that are longer than the model's window, which saw only their end

    def accuracies(self) -> dict[str, Accuracy]:
        """By measure. Empty where the answer to a question is not known."""
        if any(one.question.answer is None for one in self.answered):
            return {}
        rights = {measure: sum(one.right(measure) for one in self.answered) for measure in MEASURES}
        return {measure: wilson(right, len(self.answered)) for measure, right in rights.items()}

    def baselines(self) -> dict[str, float]:
        """What is reached without reading the questions, as shares of right answers.

        Where all have the same choices, an answer is known by its text; where not, only by its position.
        """
        questions = [one.question for one in self.answered]
        if any(question.answer is None for question in questions):
            return {}
        alike = len({frozenset(question.choices) for question in (*questions, *self.shots)}) == 1
        commonest, last = ("majority", "copy the last") if alike else ("commonest position", "position of the last")
        answers = [question.label if alike else question.answer for question in (*questions, *self.shots)]
        count, times = len(questions), Counter(answers[: len(questions)])
        shares = {
            "chance": sum(1 / len(question.choices) for question in questions) / count,
            commonest: max(times.values()) / count,
        }
        return shares | ({last: times[answers[-1]] / count} if self.shots else {})

    def to_json(self) -> dict[str, Any]:
        return {
            "questions": [
                {
                    **one.question._asdict(),
                    "choices": [choice._asdict() for choice in one.choices],
                    "best": {measure: one.best(measure) for measure in MEASURES},
                }
                for one in self.answered
            ],
            "accuracy": {measure: accuracy._asdict() for measure, accuracy in self.accuracies().items()},
            "baselines": self.baselines(),
            "shots": [shot._asdict() for shot in self.shots],
            "too_long": self.too_long,
        }


def wilson(right: float, count: int) -> Accuracy:
    """Wilson's interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    share, z2 = right / count, QUANTILE**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = QUANTILE / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return Accuracy(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def read_questions(file: str, encoding: str) -> list[Question]:
    """The questions in a file of JSON lines: `{"prompt": "…", "choices": ["…", "…"], "answer": index or text}`.

    Raises `CorpusError` for the first line that is no question, or that has an answer where others have none.
    """
    corpus, questions = Corpus.open([file], encoding), list[Question]()
    for number, line in enumerate(lines(corpus.raw()), 1):
        if line.strip():
            try:
                questions.append(question_of(parse_json(line)))
                refuse_mixed(questions)
            except SettingsError as error:
                raise CorpusError(f"{file}: line {number}: {error}") from None
    if not questions:
        raise CorpusError(f"{file} holds no question")
    return questions


def refuse_mixed(questions: Sequence[Question]) -> None:
    """Raise `SettingsError` if just one of the first and the last of these has an answer."""
    known, before = (question.answer is not None for question in (questions[-1], questions[0]))
    if known != before:
        has, had = ("an answer", "none") if known else ("no answer", "one")
        raise SettingsError(f"has {has}, and the questions before it have {had}; answer all of them, or none")


def question_of(value: Any) -> Question:
    """A question from JSON. Raises `SettingsError` for a value that is none."""
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise SettingsError('must be {"prompt": "…", "choices": ["…", "…"], "answer": index or text}')
    choices, answer = value.get("choices"), value.get("answer")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise SettingsError(f"choices must be a list of texts, got {choices!r}")
    if isinstance(answer, str) and answer in choices:
        answer = choices.index(answer)
    if answer is not None and (type(answer) is not int or not 0 <= answer < len(choices)):
        raise SettingsError(f"answer must be one of the choices or an index below {len(choices)}, got {answer!r}")
    return checked(Question(value["prompt"], choices, answer))


def checked(question: Question) -> Question:
    """The question. Raises `SettingsError` if its choices are too few, empty or equal."""
    if len(question.choices) < 2:
        raise SettingsError(f"a question needs two choices or more, got {len(question.choices)}")
    if not all(question.choices) or len({*question.choices}) < len(question.choices):
        raise SettingsError("choices must be different texts, and none of them empty")
    return question


def draw(examples: Sequence[Question], count: int, questions: Sequence[Question], seed: int) -> list[Question]:
    """`count` examples that are not among the questions, labels balanced, in a random order that depends on the seed.

    Raises `SettingsError` if they are too few, or if the answer to one is not known.
    """
    asked, rng = {question.prompt for question in questions}, random.Random(seed)
    by_label: dict[str, list[Question]] = defaultdict(list)
    for example in examples:
        if example.answer is None:
            raise SettingsError(f"an example needs an answer; {example.prompt!r} has none")
        if example.prompt not in asked:
            by_label[example.label].append(example)
    left = sum(map(len, by_label.values()))
    if left < count:
        raise SettingsError(f"--shots {count} needs as many examples that are not asked; --examples has {left}")
    for group in by_label.values():
        rng.shuffle(group)
    shots: list[Question] = []
    labels = sorted(by_label)
    rng.shuffle(labels)
    while len(shots) < count:  # one of every label in turn
        shots += [by_label[label].pop() for label in labels if by_label[label]][: count - len(shots)]
    rng.shuffle(shots)
    return shots


def choose(
    writer: Writer, questions: Sequence[Question], *, neutral: str = "", shots: Sequence[Question] = ()
) -> Generator[Progress, None, Answers]:
    """Score every choice of every question, after the `shots` and its prompt, and after the `neutral` prompt.

    An empty neutral prompt is a blank page. Raises `SettingsError` for a run that cannot continue a text, and
    `VocabularyError` for characters that the vocabulary lacks.
    """
    writer.check_can_continue()
    before = "".join(f"{shot.prompt}{shot.label}\n" for shot in shots)
    texts = [[split(before + q.prompt, choice) for choice in q.choices] for q in questions]
    neutrals = [[(neutral.rstrip(), continuation) for _, continuation in choices] for choices in texts]
    wanted = {pair for choices in (*texts, *neutrals) for pair in choices}
    scored = yield from log_probabilities(writer, sorted(wanted))
    answered = []
    for question, pairs, plain in zip(questions, texts, neutrals, strict=True):
        choices = []
        for text, pair, alone in zip(question.choices, pairs, plain, strict=True):
            value = scored[pair].value
            choices.append(Choice(text, value, value / len(utf8(pair[1])), value - scored[alone].value))
        answered.append(Answered(question, choices))
    window = writer.model.window
    too_long = sum(any(window and scored[pair].tokens > window for pair in choices) for choices in texts)
    return Answers(answered, list(shots), too_long)


def split(prompt: str, choice: str) -> tuple[str, str]:
    """(context, what is scored after it): blanks at the end of a prompt belong to the choice, as tokens of words do."""
    context = prompt.rstrip()
    return context, prompt[len(context) :] + choice


class Scored(NamedTuple):
    value: float  # log-probability in nats
    tokens: int  # of the context and what was scored


def log_probabilities(
    writer: Writer, texts: Sequence[tuple[str, str]]
) -> Generator[Progress, None, dict[tuple[str, str], Scored]]:
    """Those of continuations after their contexts, both from (context, continuation), in batches of similar length."""
    encoded = [encode(writer.tokenizer, *text) for text in texts]
    order = sorted(range(len(texts)), key=lambda number: len(encoded[number][0]))
    found: dict[tuple[str, str], Scored] = {}
    while order:
        rows = max(1, min(ROWS, BATCH_TOKENS // len(encoded[order[-1]][0])))
        batch = order[-rows:]
        del order[-rows:]
        tokens = np.full((len(batch), 1 + len(encoded[batch[-1]][0])), writer.tokenizer.start)  # what follows is unseen
        for row, number in enumerate(batch):
            tokens[row, 1 : 1 + len(encoded[number][0])] = encoded[number][0]
        pieces = list(next_nats(writer.model, torch.from_numpy(tokens).to(writer.device)))
        nats = torch.cat(pieces, 1).cpu().numpy().astype(np.float64)
        for row, number in enumerate(batch):
            ids, first = encoded[number]
            found[texts[number]] = Scored(-float(nats[row, first : len(ids)].sum()), len(ids))
        yield Progress("scoring the choices", len(found), len(texts))
    return found


def encode(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[Ids, int]:
    """(ids of both texts as one, the first that is of the continuation): a token that spans both is of the second."""
    ids = tokenizer.encode(context + continuation)
    ends = np.cumsum([len(tokenizer.tokens[id]) for id in ids.tolist()])
    return ids, int(np.searchsorted(ends, len(utf8(context)), side="right"))
