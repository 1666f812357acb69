"""Learning the guesses of a trained run."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from charlm.config import DataSpec, Lengths
from charlm.model import PAD, LanguageModel
from charlm.objectives._base import Batch
from charlm.objectives.causal import Causal
from charlm.objectives.distill import Distill
from charlm.objectives.distill_masked import DistillMasked
from charlm.plan import Plan

Typed = Callable[..., tuple[int, str, str]]
SPEC = DataSpec(7, Lengths.of_text(6))


def network(arch: str, **settings: object) -> LanguageModel:
    model = Plan.of({"arch": arch, "hidden_size": 16, "layers": 1, "dropout": 0.0, "steps": 1, **settings}).build(SPEC)
    assert isinstance(model, LanguageModel)
    return model


def student(text: Path, *words: str | Path, out: str) -> list[str | Path]:
    small = ["--arch", "transformer", "--hidden-size", "16", "--layers", "1", "--seq-len", "24", "--batch-size", "8"]
    return ["train", text, *small, "--dropout", "0.1", *words, "--quiet", "--out", out]


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(run, "last.safetensors"))


def same(a: str | Path, b: str | Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_is_that_of_the_paper_computed_by_hand() -> None:
    torch.manual_seed(0)
    teacher, learner = network("lstm"), network("transformer", heads=2)
    with torch.no_grad():  # guesses that are far from even
        for p in (*teacher.parameters(), *learner.parameters()):
            p.mul_(3)
    objective = Distill(teacher="run", softness=3.0, soft_share=0.3).taught_by(teacher)
    tokens, targets = torch.randint(7, (2, 6)), torch.randint(7, (2, 6))
    targets[1, 4:] = PAD
    z = learner(tokens, learner.start(2)).logits.tolist()
    v = teacher(tokens, teacher.start(2)).logits.tolist()

    def shares(logits: list[float], softness: float) -> list[float]:
        powers = [math.exp(x / softness) for x in logits]
        return [power / sum(powers) for power in powers]

    hard = soft = 0.0
    for row in range(2):
        for t in range(6):
            if (target := int(targets[row, t])) != PAD:
                hard -= math.log(shares(z[row][t], 1.0)[target])
                pairs = zip(shares(v[row][t], 3.0), shares(z[row][t], 3.0), strict=True)
                soft -= sum(p * math.log(q) for p, q in pairs)
    loss = objective.loss(learner, Batch(tokens, targets), objective.start(learner, 2))
    assert float(loss.nats.detach()) == pytest.approx(hard, rel=1e-5)
    assert float(loss.minimised.detach()) == pytest.approx(0.7 * hard + 0.3 * 3.0**2 * soft, rel=1e-5)


def test_a_teacher_remembers_what_it_read_before_and_nothing_of_it_learns() -> None:
    teacher, learner = network("lstm"), network("gru")
    objective = Distill(teacher="run", soft_share=1.0).taught_by(teacher)
    text = torch.randint(7, (2, 13))
    state, total = objective.start(learner, 2), torch.zeros(())
    for first in (0, 6):
        batch = Batch(text[:, first : first + 6], text[:, first + 1 : first + 7])
        loss = objective.loss(learner, batch, state)
        state, total = loss.state, total + loss.minimised
    whole = objective.loss(learner, Batch(text[:, :12], text[:, 1:]), objective.start(learner, 2))
    torch.testing.assert_close(total, whole.minimised)
    total.backward()
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in learner.parameters())


def test_with_no_share_for_the_teacher_it_is_causal_training_bit_for_bit(
    trained: Path, verses: Path, typed: Typed
) -> None:
    before = (trained / "model.safetensors").read_bytes()
    distill = ["--objective", "distill", "--teacher", trained]
    assert typed(*student(verses, "--steps", "8", out="plain"))[0] == 0
    assert typed(*student(verses, "--steps", "8", *distill, "--soft-share", "0", out="none"))[0] == 0
    assert typed(*student(verses, "--steps", "8", *distill, out="half"))[0] == 0
    assert same("plain", "none")
    assert not same("plain", "half")
    assert (trained / "model.safetensors").read_bytes() == before
    measures = [json.loads(Path(run, "training.json").read_text())["best"]["measure"] for run in ("plain", "half")]
    assert measures[0] == measures[1]
    assert typed("sample", "half", "--length", "5", "--seed", "1")[0] == 0


def test_it_goes_on_exactly_where_its_teacher_still_is(trained: Path, verses: Path, typed: Typed) -> None:
    shutil.copytree(trained, "teacher")
    begin = ["--steps", "6", "--objective", "distill", "--teacher", "teacher"]
    assert typed(*student(verses, *begin, out="at-once"))[0] == 0
    assert typed(*student(verses, *begin, "--stop-after", "3", out="in-two"))[0] == 0
    shutil.copytree("in-two", "orphan")
    Path("elsewhere").mkdir()
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    assert same("at-once", "in-two")
    shutil.rmtree("teacher")
    code, _, err = typed("train", "--resume", "orphan", "--quiet")
    assert (code, err.count("\n")) == (2, 1)
    assert f"--teacher: no run '{Path('teacher').resolve()}'" in err


def test_a_student_reads_with_its_teachers_vocabulary(trained: Path, tmp_path: Path, typed: Typed) -> None:
    fewer = tmp_path / "fewer.txt"  # has not all characters that the teacher knows
    fewer.write_text("the broth is on the bench\n" * 200)
    assert typed(*student(fewer, "--steps", "2", "--objective", "distill", "--teacher", trained, out="run"))[0] == 0
    assert Path("run/tokenizer.json").read_text() == (trained / "tokenizer.json").read_text()


def encoder(heads: int = 2, *, questions: bool = False) -> Any:
    sizes = {"hidden_size": 16, "layers": 1, "heads": heads, "dropout": 0.0, "steps": 1}
    return Plan.of({"arch": "bert", "next_sentence": questions, **sizes}).build(SPEC)


def rows_of_text(rows: int = 9) -> torch.Tensor:
    return torch.randint(7, (rows, 7), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("questions", [False, True])
def test_guesses_of_hidden_tokens_are_learnt_at_the_chosen_places_by_the_same_formula(questions: bool) -> None:
    """Both networks are fed the same row; by hand, in fp64."""
    torch.manual_seed(0)
    objective = DistillMasked(teacher="run", softness=3.0, soft_share=0.3, next_sentence=questions)
    teacher, learner = (encoder(heads, questions=questions) for heads in (1, 2))
    objective = objective.taught_by(teacher)
    spec = learner.spec
    batch = objective.batch((rows_of_text(),), spec, torch.Generator().manual_seed(1))
    loss = objective.loss(learner, batch, objective.start(learner, 9))
    chosen, hard, soft = batch.targets != PAD, 0.0, 0.0
    assert 0 < int(chosen.sum()) < chosen.numel()
    said = (network.head(network.encode(batch.tokens, batch.segments)) for network in (learner, teacher))
    z, v = (logits.detach().double() for logits in said)
    for row, place in chosen.nonzero().tolist():
        mine, soft_mine, soft_its = z[row, place], z[row, place] / 3, v[row, place] / 3
        hard -= float(mine[batch.targets[row, place]] - mine.exp().sum().log())
        soft -= float((soft_its.exp() / soft_its.exp().sum() * (soft_mine - soft_mine.exp().sum().log())).sum())
    question = 0.0
    if questions:
        truth = learner.judge(learner.encode(batch.tokens, batch.segments)).detach().double().log_softmax(-1)
        asked = batch.answers != PAD
        question = float(-truth[asked].gather(1, batch.answers[asked, None]).mean()) * int(chosen.sum())
    assert float(loss.nats.detach()) == pytest.approx(hard, rel=1e-5)
    assert float(loss.minimised.detach()) == pytest.approx(0.7 * hard + 0.3 * 9 * soft + question, rel=1e-5)


def test_a_student_with_the_weights_of_its_teacher_pays_the_entropy_of_its_guesses() -> None:
    teacher, learner = encoder(), encoder()
    learner.load_state_dict(teacher.state_dict())
    objective = DistillMasked(teacher="run", softness=1.0, soft_share=1.0).taught_by(teacher)
    batch = objective.batch((rows_of_text(),), learner.spec, torch.Generator().manual_seed(1))
    loss = objective.loss(learner, batch, objective.start(learner, 9))
    guesses = torch.distributions.Categorical(logits=teacher(batch.tokens)[batch.targets != PAD])
    assert float(loss.minimised.detach()) == pytest.approx(float(guesses.entropy().sum()), rel=1e-5)
    loss.minimised.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.abs().max() < 1e-5 for p in learner.head.parameters() if p.grad is not None)


def test_a_bert_teaches_a_bert_which_goes_on_exactly_and_fills_gaps(masked: Path, verses: Path, typed: Typed) -> None:
    small = ["--arch", "bert", "--hidden-size", "16", "--layers", "1", "--seq-len", "24", "--batch-size", "8"]
    begin = ["train", verses, *small, "--quiet", "--steps", "6", "--objective", "distill", "--teacher", masked]
    assert typed(*begin, "--out", "at-once")[0] == 0
    assert typed(*begin, "--stop-after", "3", "--out", "in-two")[0] == 0
    assert typed("train", "--resume", "in-two", "--quiet")[0] == 0
    assert same("at-once", "in-two")
    assert typed(*begin, "--soft-share", "0", "--out", "none")[0] == 0
    assert not same("at-once", "none")
    assert typed(*begin[:-4], "--out", "plain")[0] == 0
    assert same("plain", "none")
    assert len(json.loads(typed("fill", "at-once", "the l[MASK]mp", "--json")[1])["gaps"]) == 1
    best = [json.loads(Path(run, "training.json").read_text())["best"]["measure"] for run in ("at-once", "plain")]
    assert best[0] == best[1]


@pytest.mark.parametrize(
    ("teacher", "words", "message"),
    [
        ("trained", ["--arch", "bert"], "--objective distill is not for bert"),
        ("masked", ["--arch", "lstm"], "--objective distill-masked is not for lstm"),
        ("masked", ["--arch", "bert", "--seq-len", "64"], "--seq-len 64 is more than the teacher reads at once, 32"),
        ("masked", ["--arch", "bert", "--mask", "phrase"], "--mask"),
    ],
)
def test_who_cannot_learn_from_a_teacher_is_refused(
    teacher: str, words: list[str], message: str, request: pytest.FixtureRequest, verses: Path, typed: Typed
) -> None:
    given = ["--teacher", request.getfixturevalue(teacher), "--steps", "1", "--hidden-size", "16", "--out", "run"]
    goal = "distill-masked" if "--mask" in words else "distill"
    code, _, err = typed("train", verses, "--objective", goal, *given, *words)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--objective distill learns from a run: name it with --teacher"),
        (["--teacher", "nowhere"], "--teacher: no run 'nowhere'"),
        (["--teacher", "RUN", "--tokenizer", "byte"], "--tokenizer byte is not that of the teacher RUN, char"),
        (["--teacher", "RUN", "--softness", "0"], "--softness must be at least 0.1"),
        (
            ["--teacher", "RESTORER"],
            "trained with --objective denoise; give a run that guesses each next token of a text",
        ),
    ],
)
def test_what_cannot_teach_is_refused(
    words: list[str], message: str, trained: Path, restorer: Path, verses: Path, typed: Typed
) -> None:
    given = [word.replace("RUN", str(trained)).replace("RESTORER", str(restorer)) for word in words]
    code, _, err = typed(*student(verses, "--steps", "1", "--objective", "distill", *given, out="run"))
    assert (code, err.count("\n")) == (2, 1)
    assert message.replace("RUN", str(trained)) in err
    assert not Path("run").exists()


def test_without_a_teacher_it_is_causal_in_all_but_the_loss() -> None:
    assert issubclass(Distill, Causal)
    assert Distill(teacher="run").measure == Causal().measure
