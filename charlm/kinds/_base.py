"""The interface of a kind of data. Training, scoring, display and comparison use it, and know no kind themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from charlm.baselines import Baselines
from charlm.config import DataSettings, DataSpec, Lengths, TrainSettings
from charlm.progress import Progress
from charlm.score import Score
from charlm.text.corpus import Corpus
from charlm.text.tokenizers import Tokenizer
from charlm.text.vocabulary import Vocabularies


class AnyCorpus(Protocol):
    """Data as the user has them, which can be read any number of times."""

    @property
    def name(self) -> str: ...
    @property
    def paths(self) -> tuple[Path, ...]: ...
    @property
    def targets(self) -> tuple[Path, ...]:
        """The files of a second side, where it has files of its own."""
        ...

    @property
    def sha256(self) -> str: ...
    @property
    def notes(self) -> list[str]: ...
    def survey(self) -> Iterator[Progress]: ...


class AnyPart(Protocol):
    """A part of the data as ids. Its `len` is the number of its scored tokens."""

    @property
    def chars(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def beginning(self, size: int, vocabularies: Vocabularies) -> AnyPart:
        """Its first tokens or pairs, of `size` bytes at most, but one at least."""
        ...


class AnyStore(Protocol):
    """Data as ids, split into training, validation and test."""

    @property
    def vocabularies(self) -> Vocabularies: ...
    @property
    def train(self) -> Any: ...  # an `AnyPart`, as are the others
    @property
    def validation(self) -> Any: ...
    @property
    def test(self) -> Any: ...
    @property
    def corpus_sha256(self) -> str: ...
    @property
    def notes(self) -> list[str]:
        """What the user should know of how the data were read."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...
    def spec(self, train: TrainSettings) -> DataSpec: ...
    def batches(self, train: TrainSettings) -> Any: ...  # `training.loop.Batches`


class Band(NamedTuple):
    """Results on the pairs whose sources have from `shortest` to `longest` tokens."""

    shortest: int
    longest: int
    pairs: int
    nats_per_token: float
    exact: float  # share that is written exactly
    bleu: float | None
    chrf: float | None


class Confusion(NamedTuple):
    """Which classes were taken for which."""

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]  # of each true class, a row, how many were taken for each class, a column


class Trial(NamedTuple):
    """Results of having a run write for a part of the data."""

    speed: float | None = None  # characters written per second; None if it writes nothing
    score: Score | None = None  # if the trial computed it too
    figures: Mapping[str, float | None] = {}  # of quality, by name
    bands: Sequence[Band] = ()  # the figures by length of the source
    sources: Sequence[str] = ()
    targets: Sequence[str] = ()  # what should have been written
    written: Sequence[str] = ()
    confusion: Confusion | None = None  # of guesses that are classes

    def to_json(self) -> dict[str, Any]:
        bands = {"by_source_length": [band._asdict() for band in self.bands]} if self.bands else {}
        confusion = {"confusion": self.confusion._asdict()} if self.confusion else {}
        return {**self.figures, **bands, **confusion}


class Column(NamedTuple):
    """One column of a comparison's table."""

    title: str
    name: str  # key of a figure of the training or of its trial
    form: str  # a format string
    more: bool | None = None  # whether a larger value is better; None: neither is
    scale: float = 1.0  # factor before formatting


PARAMETERS = Column("parameters", "params", "{:,.0f}", more=False)
WORK = Column("multiply-adds", "multiply_adds", "{:,.0f}", more=False)  # per token
TRAINS = Column("trains char/s", "train_speed", "{:,.0f}", more=True)
WRITES = Column("writes char/s", "write_speed", "{:,.0f}", more=True)
MEMORY = Column("peak MB", "peak_memory", "{:,.0f}", more=False, scale=1e-6)


class Kind(ABC):
    """A kind of data: a class without instances, which a run's config.json names.

    An argument `writer` is a `charlm.writer.Writer`: an opened run, or a model in training. A `store` is an `AnyStore`,
    a `part` an `AnyPart`.
    """

    noun: ClassVar[str]  # in sentences: "trained on ...", "reads no ..."
    files: ClassVar[str] = ""  # suffixes of its files, in words, if not every file can be of the kind
    unit: ClassVar[str] = "characters"  # in which the size of a part is given
    Settings: ClassVar[type[DataSettings]] = DataSettings
    own: ClassVar[tuple[str, ...]] = ("seq_len", "batch_size", "order")  # settings that some other kinds do not have
    rows: ClassVar[str] = (
        "text"  # what a row of a batch is, in the word that objectives use: a window of a text, a pair
    )
    long: ClassVar[str | None] = None  # name of the recipe that is added for a budget of `config.LONG` minutes or more
    like: ClassVar[tuple[str, ...]] = ()  # other kinds whose recipes serve it, where it has none of its own
    has_source: ClassVar[bool] = False  # whether a source is read before a target is written
    arch: ClassVar[str] = "lstm"  # the default of `charlm train`
    entrants: ClassVar[str] = "lstm,gru"  # the default of `charlm compare`
    batch_flags: ClassVar[str] = "--batch-size or --seq-len"  # options that make a batch smaller
    batches: ClassVar[Mapping[str, Any]] = {"batch_size": TrainSettings.batch_size}
    """Settings of batches that must be the same for all in a comparison, with their defaults."""
    on_cuda: ClassVar[Mapping[str, Any]] = {"batch_size": 64, "seq_len": 256}
    """Settings of batches that suit a GPU; the same for all architectures, so that they compare."""
    figures: ClassVar[tuple[str, ...]] = ()  # names of a trial's figures that are shown beside the score
    columns: ClassVar[tuple[Column, ...]] = (
        PARAMETERS,
        WORK,
        TRAINS,
        MEMORY,
    )  # of a comparison's table, beside the score
    option: ClassVar[str] = "text"  # --text FILE names other data of the kind
    scored: ClassVar[str] = "{bytes} bytes to be scored on"  # describes a part; {size} is in units
    unequal: ClassVar[str] = "these runs are not scored on the same data, so their scores do not compare"
    uses: ClassVar[str] = "score it with charlm eval"  # advice for whoever asks a run for what its kind cannot do

    @classmethod
    def name(cls) -> str:
        """The name of its file."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @classmethod
    def named(cls, file: str, encoding: str) -> bool:  # noqa: ARG003
        """Whether a file, which may not exist, is of this kind by its suffix, and by its first lines if need be."""
        return False

    @classmethod
    def claims(cls, corpus: Corpus) -> bool:  # noqa: ARG003
        """Whether the names of a corpus's files, or their first lines, say that it is of this kind.

        Raises `CorpusError` if some of the files are and others are not.
        """
        return False

    @classmethod
    def batches_on(cls, device: str) -> dict[str, Any]:
        """`batches` for a class of device."""
        return {name: (cls.on_cuda if device == "cuda" else {}).get(name, v) for name, v in cls.batches.items()}

    @classmethod
    def of(cls, corpus: Corpus, targets: Corpus | None) -> AnyCorpus:  # noqa: ARG003
        """The data in a corpus, and in `targets` if they have files of their own, read as this kind."""
        return corpus

    @classmethod
    def open(cls, paths: Sequence[str | Path], targets: Sequence[str | Path], encoding: str) -> AnyCorpus:
        """As `of`, from paths. Raises what `Corpus.open` raises."""
        return cls.of(Corpus.open(paths, encoding), Corpus.open(targets, encoding) if targets else None)

    @classmethod
    @abstractmethod
    def prepare(
        cls, corpus: Any, settings: Any, cache_dir: Path | None, vocabularies: Vocabularies | None = None
    ) -> Generator[Progress, None, AnyStore]:
        """Encode and split the data, by the `vocabularies` of a run, or by new ones.

        Raises `CorpusError` if there are too few data, `VocabularyError` if the given vocabularies cannot spell them.
        """

    @classmethod
    @abstractmethod
    def read(cls, corpus: Any, settings: Any, vocabularies: Vocabularies) -> Generator[Progress, None, AnyStore]:
        """Encode other data for a run, all as the training part. Raises `VocabularyError` for unknown characters."""

    @classmethod
    def lengths(cls, data: Any, train: TrainSettings) -> Lengths:  # noqa: ARG003
        """The lengths that a network is built for, if the data are long enough for the settings."""
        return Lengths.of_text(train.seq_len)

    @classmethod
    def within(cls, window: int) -> dict[str, Any]:  # noqa: ARG003
        """Settings with which no row is longer than the `window` of a network that was built for another kind."""
        return {}

    @classmethod
    def size(cls, part: Any) -> int:
        """The size of a part, in units."""
        return int(part.chars)

    @classmethod
    def measured(cls, store: Any) -> Any:
        """The held-out part on which finished runs are compared."""
        return store.validation

    @classmethod
    def shortened(cls, store: Any, train: TrainSettings) -> str:  # noqa: ARG003
        """A note if the data allow only smaller batches than were asked for, or else ""."""
        return ""

    @classmethod
    def glimpse(cls, writer: Any, store: Any, seed: int) -> str:  # noqa: ARG003
        """A short text of the model during its training; "" if it writes none."""
        return ""

    @classmethod
    def baselines(cls, store: Any) -> Baselines | None:  # noqa: ARG003
        """What simple methods reach on the validation part, in bits per byte; None if they do not apply."""
        return None

    @classmethod
    def trial(
        cls,
        writer: Any,  # noqa: ARG003
        part: Any,  # noqa: ARG003
        settings: Any = None,  # noqa: ARG003
        like: Any = None,  # noqa: ARG003
    ) -> Generator[Progress, None, Trial]:
        """Have a run write for a part: how fast, and if the kind has `figures`, how well.

        `settings` say how it writes. `like` is the same part encoded for another run, whose lengths make the bands.
        """
        yield from ()
        return Trial()

    @classmethod
    def command(cls, network: type) -> str:  # noqa: ARG003
        """The command of charlm to suggest after the training of such a network."""
        return "eval"

    @classmethod
    def passage(cls, store: Any) -> str:  # noqa: ARG003
        """The beginning of the validation text, for a page that shows its cost per character; "" for none."""
        return ""

    @classmethod
    def sample(cls, writer: Any) -> str:  # noqa: ARG003
        """A text of a model, for a page; "" for none."""
        return ""

    @classmethod
    def equal(cls, parts: Sequence[Any]) -> bool:
        """Whether parts, encoded in different ways, hold the same data."""
        return len({(part.bytes, part.chars) for part in parts}) < 2

    @classmethod
    def step_size(cls, plan: Any) -> object:
        """Equal for plans with the same amount of data in a step."""
        return plan.train.accumulate, plan.train.seq_len

    @classmethod
    def level(cls, plans: Sequence[Any], stores: Sequence[Any]) -> list[Any]:  # noqa: ARG003
        """The plans of a comparison, changed so that all train on the same data in the same order."""
        return list(plans)
