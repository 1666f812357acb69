"""The run whose guesses a training learns (`objectives/distill.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlm.config import flag
from charlm.device import choose_device
from charlm.errors import RunError, SettingsError, as_typed
from charlm.model import LanguageModel
from charlm.objectives.causal import Causal
from charlm.objectives.distill import Distill
from charlm.plan import Plan
from charlm.runs import folder
from charlm.runs.origin import VOCABULARY
from charlm.runs.saved import Saved
from charlm.text.vocabulary import Vocabularies


class Teacher:
    """A run that guesses each next token."""

    def __init__(self, run: str | Path) -> None:
        """Raises `RunError` if there is no such run, or no whole one, `SettingsError` if it guesses something else."""
        try:
            self.saved = Saved.open(folder.find(run))
        except RunError as error:
            raise RunError(f"--teacher: {error}") from None
        if not isinstance(self.saved.plan.objective, Causal):
            learnt = self.saved.plan.objective.name()
            raise SettingsError(
                f"--teacher {run} was trained with --objective {learnt}; give a run that guesses each next token of a "
                "text, one with --objective causal",
                field="teacher",
            )

    @classmethod
    def of(cls, plan: Plan) -> Teacher | None:
        """That of a training; None if it has none."""
        return cls(str(plan.objective.teacher)) if isinstance(plan.objective, Distill) else None

    @property
    def vocabularies(self) -> Vocabularies:
        return self.saved.vocabularies

    @property
    def settings(self) -> dict[str, Any]:
        """What a training takes from it: where it is, wherever the training is resumed, and how it reads a text."""
        data = self.saved.plan.data.to_dict()
        vocabulary = {name: data[name] for name in VOCABULARY if name in data}
        return {"teacher": str(self.saved.path.resolve()), **vocabulary}

    def refuse(self, given: Mapping[str, Any]) -> None:
        """Raise `SettingsError` for a setting by which a student would read another vocabulary."""
        own = self.settings
        for name in VOCABULARY:
            if name in own and given.get(name, own[name]) != own[name]:
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
    assert isinstance(plan.objective, Distill)
    if teacher.vocabularies.sha256 != vocabularies.sha256:
        raise SettingsError(
            f"--teacher: {teacher.saved.path} has another vocabulary than this training, which learns from no other; "
            "give a run with the same one"
        )
    network = teacher.saved.network().to(choose_device(plan.train.device, several=several))
    assert isinstance(network, LanguageModel), "it was trained to guess each next token"
    return replace(plan, objective=plan.objective.taught_by(network))
