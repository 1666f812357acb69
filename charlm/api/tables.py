"""What was learnt or seen inside, as rows of a table: a dict per row."""

from __future__ import annotations

from itertools import groupby

from charlm.inside.attend import AllHeads, Attended
from charlm.inside.choose import MEASURES, Answers
from charlm.inside.explain import Explanation
from charlm.inside.fill import Filled
from charlm.inside.lens import Lens
from charlm.inside.neurons import Neurons
from charlm.inside.novelty import Examined
from charlm.inside.surprise import Surprise
from charlm.runs.standing import Point
from charlm.score import Measure
from charlm.views.shown import Records


def of_surprise(surprise: Surprise) -> Records:
    return [
        {"line": number, "character": c, "bits": b}
        for number, (line, bits) in enumerate(surprise.lines(), 1)
        for c, b in zip(line, bits.tolist(), strict=True)
    ]


def of_explanation(explanation: Explanation) -> Records:
    tokens, stages = explanation
    return [
        {"token": token, **{stage.name: stage.probabilities[row] for stage in stages}}
        for row, token in enumerate(tokens)
    ]


def of_attention(attended: Attended) -> Records:
    return [
        {"row": r, "column": c, "looks_from": query, "at": key, "weight": weight}
        for r, (query, weights) in enumerate(zip(attended.rows, attended.weights, strict=True))
        for c, (key, weight) in enumerate(zip(attended.columns, weights, strict=False))
    ]


def of_heads(heads: AllHeads) -> Records:
    layers, count = heads.weights.shape[:2]
    return [
        {"layer": layer, "head": head, **row}
        for layer in range(1, layers + 1)
        for head in range(1, count + 1)
        for row in of_attention(heads.chosen(layer, head))
    ]


def of_neurons(neurons: Neurons) -> Records:
    return [
        {"layer": unit.layer, "unit": unit.unit, "position": position, "token": token, neurons.gate: value}
        for unit in neurons.units
        for position, (token, value) in enumerate(zip(neurons.tokens, unit.values, strict=True))
    ]


def of_lens(lens: Lens) -> Records:
    return [
        {"layer": layer.name, "position": position, "token": token, "guess": guess, "right": right, "probability": p}
        for layer in lens.layers
        for position, (token, guess, right, p) in enumerate(
            zip(lens.tokens, layer.guesses, layer.right, layer.probabilities, strict=True)
        )
    ]


def of_filled(filled: Filled) -> Records:
    return [
        {"gap": number, "guess": guess.text, "share": guess.share}
        for number, gap in enumerate(filled.gaps, 1)
        for guess in gap.guesses
    ]


def of_answers(answers: Answers) -> Records:
    return [
        {"prompt": one.question.prompt, "choice": choice.text, **{name: getattr(choice, name) for name in MEASURES}}
        for one in answers.answered
        for choice in one.choices
    ]


def of_copies(examined: Examined) -> Records:
    """A row per passage in which the same number of characters is copied."""
    passages, at = Records(), 0
    for length, group in groupby(examined.novelty.copied.tolist()):
        size = len(list(group))
        passages.append({"at": at, "text": examined.text[at : at + size], "copied": length})
        at += size
    return passages


def of_curve(points: list[Point], losses: dict[int, float], measure: Measure) -> Records:
    """`losses` are the training losses by step, in nats per token."""
    return [{**point.named(measure), "train_nats": losses.get(point.step)} for point in points]
