"""The run whose weights a training starts from (transfer; Howard & Ruder 2018, arXiv:1801.06146, section 3.2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from charlm import kinds
from charlm.archs._positions import Learned
from charlm.config import fields_of, flag
from charlm.errors import SettingsError, as_typed
from charlm.kinds._base import Kind
from charlm.runs import folder
from charlm.runs.checkpoint import Tensors
from charlm.runs.record import Record
from charlm.runs.saved import Saved
from charlm.text.vocabulary import Vocabularies
from charlm.training.loop import Trainer

FREE = ("dropout", "input_dropout", "weight_drop")  # settings of a model that do not change what its weights mean
LENGTHS = ("seq_len", "max_length")  # settings that decide how long a context the model is built for
VOCABULARY = ("tokenizer", "vocab_size", "min_count", "alphabet", "share_vocab")
BODY = "body."  # before the names of an architecture's own network, where an objective puts another around it
GENTLY = 0.25  # of the rate that the weights were trained with, as Radford et al. 2018, section 4.1; docs/recipes.md


class Origin:
    """A run with weights to start from."""

    def __init__(self, run: str | Path) -> None:
        """Raises `RunError` if there is no such run, or it is not whole."""
        self.saved = Saved.open(folder.find(run))
        self.path, self.plan, self.vocabularies = self.saved.path, self.saved.plan, self.saved.vocabularies

    def settings(self, kind: type[Kind], objective: str | None = None, *, frozen: bool = False) -> dict[str, Any]:
        """The settings of a training on a kind of data that starts from the run, unless others are given.

        Those of its objective are among them unless another `objective` is given. Where the run's weights are `frozen`,
        what learns is new, and learns no more slowly than they did.
        """
        plan, known = self.plan, {f.name for f in fields_of(kind.Settings)}
        data, own = plan.data.to_dict(), plan.train.to_dict() | plan.data.to_dict()
        vocabulary = {name: data[name] for name in VOCABULARY if name in data.keys() & known}
        named = {"arch": plan.arch, "lr": plan.train.lr * (1 if frozen else GENTLY)}
        if kind.name() == plan.kind:
            lengths = {name: own[name] for name in LENGTHS if name in kind.own}
            named["objective"] = plan.objective.name()
            if objective in (None, plan.objective.name()):
                named |= plan.objective.to_dict()
        else:
            window = plan.outline(self.saved.spec).window
            lengths = kind.within(window) if window else {}
        return {**plan.model.to_dict(), **vocabulary, **lengths, **named}

    def refuse_kind(self, kind: type[Kind]) -> None:
        """Raise `SettingsError` for data of another kind, unless the run has learnt from running text."""
        trained = kinds.load(self.plan.kind)
        if trained.name() not in (kinds.TEXT, kind.name()):
            raise SettingsError(f"{self.path} was trained on {trained.noun}, and these files hold {kind.noun}")

    def refuse(self, given: Mapping[str, Any]) -> None:
        """Raise `SettingsError` for a setting with which the weights or the ids of tokens lose their sense."""
        fixed = {"arch", *VOCABULARY, *(f.name for f in fields_of(type(self.plan.model)) if f.name not in FREE)}
        own = self.settings(kinds.load(self.plan.kind))
        for name in sorted(fixed & given.keys() & own.keys()):
            if given[name] != own[name]:
                source = "tokenizer" if name in VOCABULARY else "network"
                raise SettingsError(
                    f"{flag(name)} {as_typed(given[name])} is not that of {self.path}, {as_typed(own[name])}, and its "
                    f"weights are for that {source} alone; leave it out, or start without --init-from",
                    field=name,
                )

        for name in LENGTHS:
            if given.get(name, own.get(name)) != own.get(name) and (derived := getattr(self.plan.model, "derived", [])):
                raise SettingsError(
                    f"{flag(name)} {given[name]} is not that of {self.path}, {own[name]}, from which its "
                    f"{', '.join(map(flag, derived))} followed; leave it out, or start without --init-from",
                    field=name,
                )

    def tensors(self) -> tuple[Tensors, dict[str, Any]]:
        """The weights by name, and what their file says. Raises as `Saved.tensors` does."""
        return self.saved.tensors()

    @torch.no_grad()
    def give(self, trainer: Trainer, record: Record, vocabularies: Vocabularies) -> str:
        """Set the weights of a training to the run's, note that in its record, and say what was taken and what is new.

        What is put around the architecture's own network stays as it was drawn if the run lacks it, or has it for other
        classes. Learned positions may be fewer, and ids beyond the vocabulary. Raises `SettingsError` for a network of
        another shape.
        """
        (given, metadata), model, spec = self.tensors(), trainer.model, trainer.model.spec
        outside = outside_of([name for name, _ in model.named_parameters()])
        tensors = {outside_of(given) + name: t for name, t in given.items()}
        modules = [(f"{outside}{name}.weight", module) for name, module in model.named_modules()]
        places = {f"{name.removesuffix('.weight')}.embed.weight" for name, m in modules if isinstance(m, Learned)}
        tokens = {name for name, m in modules if isinstance(m, nn.Embedding) and m.num_embeddings == spec.input_size}
        other = self.vocabularies.classes != vocabularies.classes
        taken, new, symbols, cut = 0, dict[str, Tensor](), 0, ""
        for own, p in model.named_parameters():
            name = outside + own
            if not name.startswith(BODY) and (other or name not in tensors):
                new[name] = p
                continue
            t = tensors.pop(name, torch.empty(0))
            if name in places and len(t) > len(p):
                cut = f", the first {len(p)} of {len(t)} positions"
            if name in places | tokens and len(t) > len(p):
                symbols += 0 if name in places else t[len(p) :].numel()
                t = t[: len(p)]
            if t.shape != p.shape:
                raise SettingsError(self.misfit(own, t, p, learned=name in places))
            p.copy_(t)
            taken += p.numel()
        if trainer.average is not None:
            trainer.average.load_state_dict(model.state_dict())
        record.origin, step = self.to_json(), metadata.get("step")
        unused = f"; {by_part(tensors)} are left out" if tensors else ""
        unused += f"; {symbols:,} of symbols beyond the vocabulary are left out" if symbols else ""
        fresh = f"; {by_part(new)} are new" if new else ""
        if new and other:
            fresh = f"; the head of {spec.classes} classes is new, with {sum(p.numel() for p in new.values()):,}"
        where = f"of {self.path}, step {step}"
        return f"starts with the {taken:,} weights {where}{cut}{unused}{fresh}; the optimizer begins anew"

    def misfit(self, name: str, given: Tensor, wanted: Tensor, *, learned: bool) -> str:
        """The error for weights of another shape."""
        if learned:
            return (
                f"{self.path} has learned {len(given)} positions and {len(wanted)} are asked for; give a --seq-len, of "
                f"pairs a --max-length, with which {len(given)} suffice"
            )
        shapes = f"{tuple(given.shape)} in {self.path} and would be {tuple(wanted.shape)}"
        return f"{name} is {shapes}: with another --objective its weights do not fit; leave that out"

    def to_json(self) -> dict[str, Any]:
        """What config.json says of it."""
        return {"run": str(self.path.resolve()), "weights": str(self.saved.file("best").name)}


def outside_of(names: Collection[str]) -> str:
    """What names of a network's weights lack where no objective puts another network around it, or else ""."""
    return "" if any(name.startswith(BODY) for name in names) else BODY


def by_part(weights: Mapping[str, Tensor]) -> str:
    """How many numbers the weights of each part of a network have, in words."""
    counts: dict[str, int] = {}
    for name, t in weights.items():
        part = name.removeprefix(BODY).partition(".")[0]
        counts[part] = counts.get(part, 0) + t.numel()
    return " and ".join(f"{count:,} of its {part}" for part, count in counts.items())
