"""The run whose guesses a training learns (`objectives/distill.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.config import fields_of, flag
from charlm.device import choose_device
from charlm.errors import RunError, SettingsError, as_typed
from charlm.objectives._base import Objective
from charlm.objectives._taught import Taught
from charlm.objectives.causal import Causal
from charlm.objectives.distill import Distill
from charlm.objectives.distill_masked import DistillMasked
from charlm.objectives.masked import Masked
from charlm.plan import Plan
from charlm.runs import folder
from charlm.runs.origin import VOCABULARY
from charlm.runs.saved import Saved
from charlm.text.vocabulary import Vocabularies

STUDENTS: dict[type[Objective], type[Taught]] = {Causal: Distill, Masked: DistillMasked}
"""What a run of an objective teaches."""


class Teacher:
    """A run that guesses each next token, or hidden ones."""

    def __init__(self, run: str | Path) -> None:
        """Raises `RunError` if there is no such run, or no whole one, `SettingsError` if it guesses something else."""
        try:
            self.saved = Saved.open(folder.find(run))
        except RunError as error:
            raise RunError(f"--teacher: {error}") from None
        objective = self.saved.plan.objective
        student = next((taught for learnt, taught in STUDENTS.items() if isinstance(objective, learnt)), None)
        if student is None:
            raise SettingsError(
                f"--teacher {run} was trained with --objective {objective.name()}; give a run that guesses each next "
                "token of a text, or hidden ones: one with --objective causal or masked",
                field="teacher",
            )
        self.student = student

    @classmethod
    def of(cls, plan: Plan) -> Teacher | None:
        """That of a training; None if it has none."""
        return cls(str(plan.objective.teacher)) if isinstance(plan.objective, Taught) else None

    @property
    def vocabularies(self) -> Vocabularies:
        return self.saved.vocabularies

    @property
    def settings(self) -> dict[str, Any]:
        """What a training takes from it: where it is, wherever the training is resumed, the objective that it teaches,
        how it reads a text and, if it hides tokens, how."""
        data, learnt = self.saved.plan.data.to_dict(), self.saved.plan.objective.to_dict()
        vocabulary = {name: data[name] for name in VOCABULARY if name in data}
        hidden = {field.name: learnt[field.name] for field in fields_of(Masked) if self.student is DistillMasked}
        name = self.student.name()
        return {"objective": name, "teacher": str(self.saved.path.resolve()), **vocabulary, **hidden}

    def refuse(self, given: Mapping[str, Any]) -> None:
        """Raise `SettingsError` for a setting by which a student would read another text than its teacher."""
        own = self.settings
        for name in own.keys() - {"objective", "teacher"}:
            if given.get(name, own[name]) != own[name]:
                raise SettingsError(
                    f"{flag(name)} {as_typed(given[name])} is not that of the teacher {self.saved.path}, "
                    f"{as_typed(own[name])}, and a student reads what its teacher reads; leave it out",
                    field=name,
                )


def taught(plan: Plan, vocabularies: Vocabularies, *, several: bool) -> Plan:
    """The plan with the network of its teacher, if it has one, where the training will compute; `several` processes may
    share it. Raises as `Teacher` does, and `SettingsError` for a teacher with another vocabulary."""
    teacher = Teacher.of(plan)
    if teacher is None:
        return plan
    assert isinstance(plan.objective, Taught)
    if not isinstance(plan.objective, teacher.student):
        raise SettingsError(
            f"--teacher {teacher.saved.path} teaches --objective {teacher.student.name()}, and not "
            f"{plan.objective.name()}",
            field="teacher",
        )
    if teacher.vocabularies.sha256 != vocabularies.sha256:
        raise SettingsError(
            f"--teacher: {teacher.saved.path} has another vocabulary than this training, which learns from no other; "
            "give a run with the same one"
        )
    network = teacher.saved.network().to(choose_device(plan.train.device, several=several))
    row, longest = plan.lengths.training, network.spec.lengths.training
    if teacher.student is DistillMasked and row > longest:
        raise SettingsError(
            f"--seq-len {row} is more than the teacher reads at once, {longest}; give --seq-len {longest}",
            field="seq_len",
        )
    return replace(plan, objective=plan.objective.taught_by(network))
