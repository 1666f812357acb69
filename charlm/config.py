"""Settings: typed, frozen dataclasses. An option's default, bounds and help stand on its field and nowhere else.

The command line, TOML files, `config.json` and Python all read the same fields. Nothing here imports torch.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from charlm.errors import SettingsError
from charlm.interval import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAD = -1  # the id of no token, which fills up short rows: masked when read, not scored when a target

BUDGETS = ("minutes", "steps", "epochs")  # a training has exactly one of them
LONG = 15.0  # minutes: from this budget on, recipes for long trainings (larger models, more dropout) do better

S = TypeVar("S", bound="Settings")


def flag(name: str) -> str:
    """The flag of a setting: `hidden_size` -> `--hidden-size`."""
    return "--" + name.replace("_", "-")


def setting(flag: str) -> str:
    """The setting of a flag: `--hidden-size` -> `hidden_size`."""
    return flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class Arg:
    """Help text and inclusive bounds of one field."""

    help: str
    min: float | None = None
    max: float | None = None


class Field(NamedTuple):
    """One declared setting; `type` is its annotation without the `Annotated` wrapper."""

    name: str
    type: Any
    arg: Arg
    default: Any

    @property
    def flag(self) -> str:
        return flag(self.name)


FIELDS: dict[type[Settings], tuple[Field, ...]] = {}  # of the classes that were asked for


class Settings:
    """Base of every settings dataclass. Raises `SettingsError` for a value that does not fit its field."""

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            check(field, getattr(self, field.name))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]  # every subclass is a dataclass


def fields_of(cls: type[Settings]) -> tuple[Field, ...]:
    """The fields of a settings class in the order they were declared."""
    if cls not in FIELDS:
        hints = get_type_hints(cls, include_extras=True)
        declared = []
        for f in fields(cls):  # type: ignore[arg-type]
            annotation, (arg, *_) = get_args(hints[f.name])[0], hints[f.name].__metadata__
            declared.append(Field(f.name, annotation, arg, f.default))
        FIELDS[cls] = tuple(declared)
    return FIELDS[cls]


def take(cls: type[S], values: Mapping[str, Any]) -> S:
    """An instance of `cls` from those `values` that are its fields; its other fields keep their defaults."""
    return cls(**{f.name: values[f.name] for f in fields_of(cls) if f.name in values})


def without_none(hint: Any) -> tuple[Any, bool]:
    """Split `T | None` into (T, True), and any other type into (T, False)."""
    if get_origin(hint) in (Union, types.UnionType):
        members = [a for a in get_args(hint) if a is not type(None)]
        return members[0], len(members) < len(get_args(hint))
    return hint, False


def parse_value(field: Field, typed: Any) -> Any:
    """Convert `typed`, a string or a list of strings, to the field's type.

    What cannot be converted comes back unchanged: `check` refuses it with a message.
    """
    kind, _ = without_none(field.type)
    if get_origin(kind) is tuple:
        return tuple(typed) if isinstance(typed, list) else typed
    if not isinstance(typed, str):
        return typed
    if kind is bool:
        return {"true": True, "on": True, "false": False, "off": False}.get(typed.lower(), typed)
    with suppress(ValueError):
        return kind(typed) if kind in (int, float) else typed
    return typed


def check(field: Field, value: Any) -> None:
    """Raise `SettingsError` unless `value` has the field's type and lies within its bounds."""
    if expected := requirement(field, value):
        raise SettingsError(f"{field.flag} must be {expected}, got {value!r}", field=field.name)


def requirement(field: Field, value: Any) -> str:
    """The requirement that `value` violates, such as `at least 1`; empty if the value fits."""
    kind, optional = without_none(field.type)
    if value is None and optional:
        return ""
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        fits = isinstance(value, tuple) and all(isinstance(part, str) for part in value)
        return "" if fits else "a list of texts"
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return _TYPE_NAMES.get(kind) or str(kind.__name__)
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if field.arg.min is not None and value < field.arg.min:
        return f"at least {all_digits(field.arg.min)}"
    if field.arg.max is not None and value > field.arg.max:
        return f"at most {all_digits(field.arg.max)}"
    return ""


def all_digits(bound: float) -> str:
    """A bound as text; a whole number with all its digits."""
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class Lengths(NamedTuple):
    """Sequence lengths in tokens. Not settings: a short text allows less than was asked for."""

    training: int  # of a row in a training batch
    window: int  # longest context of a prediction, in architectures that have a window
    source: int  # longest source that an encoder reads
    target: int  # longest target that its decoder writes, with the newline that it is fed first

    @classmethod
    def of_text(cls, row: int) -> Lengths:
        """For rows of `row` tokens of running text: an encoder-decoder reads the first half and writes the second."""
        half = row // 2
        return cls(row, row, half, row - half)

    @classmethod
    def of_pairs(cls, line: int) -> Lengths:
        """For sources and targets of at most `line` tokens."""
        return cls(2 * line, 2 * line, line, line)


class DataSpec(NamedTuple):
    """What a network must know of its data. Not settings: these are known only once the corpus has been read."""

    vocab_size: int
    lengths: Lengths
    source_vocab_size: int | None = None  # of the encoder; None: it shares the vocabulary
    counts: NDArray[np.int64] | None = None  # (V,) of every token in the training text; only for a fresh model
    twins: NDArray[np.int64] | None = None  # (source vocabulary,) the id in V of the same bytes, or PAD
    symbols: int = 0  # input ids from V on that no text holds, such as an objective's blanks
    guessed: int = 0  # of these, the first, that are guessed too
    classes: int = 0  # of labels, one of which is the answer to a whole text
    answers: int = 0  # to an objective's question about a row as a whole, beside its tokens; 0: it asks none
    tokens: Sequence[bytes] = ()  # (V,) what each token stands for, for objectives that look at words

    @property
    def input_size(self) -> int:
        """Rows of the embedding: the vocabulary and the symbols."""
        return self.vocab_size + self.symbols

    @property
    def output_size(self) -> int:
        """Ids that are guessed: the vocabulary, and of the symbols those that an objective asks for."""
        return self.vocab_size + self.guessed


@dataclass(frozen=True)
class DataSettings(Settings):
    """How a text becomes token ids, and which part of it is held out."""

    tokenizer: Annotated[Literal["char", "byte", "word", "bpe", "bytebpe", "unigram"], Arg("what a token is")] = "char"
    vocab_size: Annotated[int, Arg("largest vocabulary of word, bpe, bytebpe, unigram", min=300, max=1_000_000)] = 4096
    min_count: Annotated[int, Arg("char: spell rarer characters in UTF-8 bytes", min=1, max=10**9)] = 1
    alphabet: Annotated[
        Literal["corpus", "printable"], Arg("char: the corpus's own characters, or the 100 printable ASCII ones")
    ] = "corpus"
    val_frac: Annotated[float, Arg("share of the text held out to validate on, 0 = none", min=0, max=0.9)] = 0.05
    test_frac: Annotated[float, Arg("share of the text held out to test on, 0 = none", min=0, max=0.9)] = 0.05
    encoding: Annotated[str, Arg("how the text's bytes spell characters, where no byte order mark says so")] = "utf-8"

    @property
    def holds_out(self) -> bool:
        return self.val_frac + self.test_frac > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alphabet == "printable" and self.tokenizer != "char":
            raise SettingsError(
                f"--alphabet printable is for --tokenizer char; {self.tokenizer} reads the text as it is written",
                field="alphabet",
            )
        if self.val_frac + self.test_frac > 0.9:
            raise SettingsError(
                f"--val-frac {self.val_frac:g} and --test-frac {self.test_frac:g} leave too little to train on; "
                "together they may take 0.9",
                field="val_frac",
            )


@dataclass(frozen=True)
class TrainSettings(Settings):
    """How weights are trained. An architecture's `recipes` replace the defaults that it was tuned for."""

    minutes: Annotated[float | None, Arg("budget: minutes of training", min=0.01, max=1e6)] = None
    steps: Annotated[int | None, Arg("budget: optimizer steps", min=1, max=10**12)] = None
    epochs: Annotated[float | None, Arg("budget: passes over the training text", min=0.001, max=1e9)] = None
    batch_size: Annotated[int, Arg("sequences per batch", min=1, max=65_536)] = 16
    seq_len: Annotated[int, Arg("tokens per sequence", min=2, max=1_000_000)] = 64
    order: Annotated[Literal["stream", "random"], Arg("rows that continue each other, or unrelated windows")] = "stream"
    lr: Annotated[float, Arg("peak learning rate", min=0, max=10)] = 6e-3
    schedule: Annotated[
        Literal["wsd", "cosine", "linear", "inverse-sqrt", "slanted", "constant"],
        Arg("course of the learning rate; inverse-sqrt: as one over the root of the step; slanted: as in ULMFiT"),
    ] = "linear"
    warmup: Annotated[float, Arg("share of the budget in which the rate rises to its peak", min=0, max=1)] = 0.02
    layer_decay: Annotated[float, Arg("a stage's rate, divided by that of the one below it", min=1, max=10)] = 1.0
    unfreeze: Annotated[Literal["all", "gradual", "head"], Arg("what learns; gradual: a stage per epoch")] = "all"
    optimizer: Annotated[Literal["adamw", "muon"], Arg("muon: for matrices, with adamw for the rest")] = "adamw"
    beta2: Annotated[float, Arg("decay of the second moment", min=0, max=0.99999)] = 0.99
    weight_decay: Annotated[float, Arg("pull of matrices towards zero", min=0, max=10)] = 0.01
    clip: Annotated[float, Arg("largest gradient norm, 0 = no limit", min=0, max=1e9)] = 1.0
    accumulate: Annotated[int, Arg("batches per optimizer step", min=1, max=65_536)] = 1
    ema: Annotated[float, Arg("decay of the averaged weights that are kept, 0 = none", min=0, max=0.99999)] = 0.0
    precision: Annotated[Literal["auto", "fp32", "bf16"], Arg("arithmetic of the matrix products")] = "auto"
    compile: Annotated[Literal["auto", "on", "off"], Arg("run torch.compile first; auto: if that repays")] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Arg("where to compute")] = "auto"
    parallel: Annotated[
        Literal["ddp", "fsdp", "tensor"],
        Arg("what processes share: the rows (ddp), weights too (fsdp), or the work of each layer (tensor)"),
    ] = "ddp"
    seed: Annotated[int, Arg("seed of every random choice", min=0, max=2**63 - 1)] = 0
    eval_every: Annotated[str, Arg("steps (500) or time (30s, 2m) between validations; auto: 5 % of the time")] = "auto"
    save_every: Annotated[str, Arg("steps (500) or time (30s, 2m) between checkpoints")] = "1m"
    keep_zeros: Annotated[bool, Arg("weights of matrices that are zero stay so, as charlm prune made them")] = False
    patience: Annotated[int, Arg("stop after so many validations without a new best, 0 = never", min=0, max=10**9)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.budgets) > 1:
            raise SettingsError(
                f"{' and '.join(map(flag, self.budgets))} are different budgets; give one of them",
                field=next(iter(self.budgets)),
            )
        if self.schedule == "inverse-sqrt" and not self.warmup:
            raise SettingsError(
                "--schedule inverse-sqrt falls from where --warmup ends; give a --warmup above 0", field="schedule"
            )
        Interval.parse("--eval-every", self.eval_every, auto=True)
        Interval.parse("--save-every", self.save_every)

    @property
    def budgets(self) -> dict[str, float]:
        """{name: value} of the budget that was given; empty if there is none."""
        return {name: value for name in BUDGETS if (value := getattr(self, name)) is not None}
