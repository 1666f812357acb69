"""A family of models: what its weights and its options are called by Hugging Face's library and by us, both ways."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from charlm.config import fields_of, flag
from charlm.errors import SettingsError, as_typed
from charlm.model import Network
from charlm.plan import Plan

Shape = tuple[int, ...]
HARMLESS = (  # patterns of options that every model may have and that change no number that it computes
    *("model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "use_bfloat16", "torchscript"),
    *("name_or_path", "_name_or_path", "_commit_hash", "attn_implementation", "_attn_implementation*"),
    *("vocab_size", "*_token_id", "tokenizer_class", "prefix", "task_specific_params", "finetuning_task"),
    *("id2label", "label2id", "num_labels", "_num_labels", "problem_type", "initializer_range"),
    *("use_cache", "return_dict*", "output_*", "gradient_checkpointing", "chunk_size_feed_forward", "tf_legacy_loss"),
    *("is_decoder", "is_encoder_decoder", "tie_encoder_decoder", "pruned_heads"),  # what they change, tensors show
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beam*", "diversity_penalty", "temperature"),
    *("top_k", "top_p", "typical_p", "*repetition_penalty", "length_penalty", "exponential_decay_length_penalty"),
    *("*no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "*suppress_tokens", "remove_invalid_values"),
)


NEVER = -1e4  # a logit with which nothing is guessed, in any precision


class Match(NamedTuple):
    """A module of ours, and theirs with the same weights: one, or several whose rows ours has one after the other.

    `*` stands for the number of a block.
    """

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False  # theirs is a Conv1D, which keeps its matrix as (in, out)
    symbols: int = 0  # theirs has so many rows more: of ids that are fed, and are never guessed


class Source(NamedTuple):
    """Their tensors that make one of ours."""

    names: tuple[str, ...]
    transposed: bool
    symbols: int = 0

    def to_ours(self, tensors: list[Tensor]) -> Tensor:
        ours = torch.cat([t.T if self.transposed and t.dim() == 2 else t for t in tensors])
        return ours[: len(ours) - self.symbols]

    def to_theirs(self, tensor: Tensor) -> dict[str, Tensor]:
        never = tensor.new_full((self.symbols, *tensor.shape[1:]), NEVER)
        parts = torch.cat([tensor, never]).chunk(len(self.names))
        return {name: t.T if self.transposed and t.dim() == 2 else t for name, t in zip(self.names, parts, strict=True)}

    def shapes(self, ours: Shape) -> dict[str, Shape]:
        """The shapes of theirs that make one of ours of this shape."""
        return {name: tuple(t.shape) for name, t in self.to_theirs(torch.empty(ours, device="meta")).items()}


class Family(ABC):
    """A family: a class without instances."""

    model: ClassVar[str]  # the class in transformers
    arch: ClassVar[str] = "transformer"
    prefix: ClassVar[str]  # of all names but the head's; files that were saved without a head lack it
    heads: ClassVar[tuple[str, ...]] = ()  # beginnings of the names without the prefix
    symbols: ClassVar[tuple[str, ...]] = ()  # the last ids of theirs, by name: symbols of our objective
    matches: ClassVar[tuple[Match, ...]]
    copies: ClassVar[Mapping[str, str]] = {}  # names of tensors that are left out, or the same as another (tied)
    buffers: ClassVar[tuple[str, ...]] = ()  # ends of names of tensors that are no weights
    options: ClassVar[Mapping[str, tuple[str, ...]]]
    """Theirs by our name. The first that a config.json has is read, and all are written."""
    harmless: ClassVar[tuple[str, ...]] = ()  # further patterns as in `HARMLESS`
    ours: ClassVar[Mapping[str, Any]] = {}  # settings of the model for which the family has one value
    free: ClassVar[tuple[str, ...]] = ()  # settings that change no number of a model with weights
    lr: ClassVar[float]  # peak learning rate from fresh weights

    @classmethod
    @abstractmethod
    def theirs(cls, options: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Values of further options of theirs that we can compute, the default first; `options` are all the others."""

    @classmethod
    @abstractmethod
    def sizes(cls, network: Any) -> dict[str, Any]:
        """Settings that a plan may leave open, and a network of ours has decided."""

    @classmethod
    def settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Our settings for their config.json.

        Raises `SettingsError` if an option is missing, is unknown, or has a value that we do not compute.
        """
        known = {*cls.theirs(config), *(option for options in cls.options.values() for option in options)}
        for option, value in config.items():
            harmless = any(fnmatchcase(option, pattern) for pattern in (*HARMLESS, *cls.harmless))
            if option not in known and value is not None and not harmless:
                raise SettingsError(f"it has {option}, of which charlm does not know what a {cls.model} does with it")
        for option, allowed in cls.theirs(config).items():
            if (value := config.get(option, allowed[0])) not in allowed:
                choices = " or ".join(map(repr, allowed))
                raise SettingsError(f"its {option} is {value!r}; charlm computes a {cls.model} with {choices}")
        values: dict[str, Any] = {"arch": cls.arch, "lr": cls.lr, **cls.ours}
        for name, options in cls.options.items():
            given = [config[option] for option in options if option in config]
            if not given:
                raise SettingsError(f"it lacks {options[0]}")
            values[name] = given[0]
        return values

    @classmethod
    def differences(cls, config: Mapping[str, Any]) -> list[str]:
        """In words, where several options of theirs differ that are one of ours."""
        several = {ours: {o: config[o] for o in options if o in config} for ours, options in cls.options.items()}
        return [
            f"{', '.join(f'{option} is {value!r}' for option, value in given.items())}; charlm has one {flag(ours)}, "
            f"and takes {next(iter(given.values()))!r}"
            for ours, given in several.items()
            if any(value != next(iter(given.values())) for value in given.values())
        ]

    @classmethod
    def config(cls, plan: Plan, network: Network) -> tuple[dict[str, Any], list[str]]:
        """Their config.json for a run, and in words the settings that the family does not have."""
        if plan.arch != cls.arch:
            return {}, [f"--arch is {plan.arch} and would have to be {cls.arch}"]
        values = plan.model.to_dict() | cls.sizes(network)
        wanted = {field.name: cls.ours.get(field.name, field.default) for field in fields_of(type(plan.model))}
        problems = [
            f"{flag(name)} is {as_typed(values[name])} and would have to be {as_typed(value)}"
            for name, value in wanted.items()
            if name not in (*cls.options, *cls.free) and values[name] != value
        ]
        options = {theirs: values[name] for name, several in cls.options.items() for theirs in several}
        return options | {option: allowed[0] for option, allowed in cls.theirs(options).items()}, problems

    @classmethod
    def full(cls, name: str) -> str:
        """Their name of a tensor with its prefix, if it has one."""
        return name if name.startswith(cls.heads) else cls.prefix + name

    @classmethod
    def source(cls, ours: str) -> Source:
        """What makes our tensor of this name."""
        module, _, kind = ours.rpartition(".")
        number = "".join(re.findall(r"\b\d+\b", module))
        for match in cls.matches:
            if match.ours.replace("*", number) == module:
                names = tuple(f"{name.replace('*', number)}.{kind}" for name in match.theirs)
                return Source(names, match.transposed, match.symbols)
        raise AssertionError(f"{cls.__name__} has no match for {ours}")
