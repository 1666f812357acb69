"""What a kind of data is: all that trains, scores, shows and compares asks here, and nothing else tells kinds apart."""

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
    """Data as the user has them. They can be read any number of times."""

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
    """A part of the data as ids. Its length is that of what is scored in it, in tokens."""

    @property
    def chars(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def __len__(self) -> int: ...


class AnyStore(Protocol):
    """Data as ids, cut into three parts."""

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
        """What a person should know of how the data were read."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...
    def spec(self, train: TrainSettings) -> DataSpec: ...
    def batches(self, train: TrainSettings) -> Any: ...  # `training.loop.Batches`


class Band(NamedTuple):
    """Pairs whose sources have so many tokens."""

    shortest: int
    longest: int
    pairs: int
    nats_per_token: float
    exact: float
    bleu: float | None
    chrf: float | None


class Trial(NamedTuple):
    """What came of having a run write for a part of the data."""

    speed: float | None = None  # characters written per second; None for what does not write
    score: Score | None = None  # where it was scored on the way
    figures: Mapping[str, float | None] = {}  # how good it is, by name
    bands: Sequence[Band] = ()  # the same by the length of the source
    sources: Sequence[str] = ()
    targets: Sequence[str] = ()  # what should have been written
    written: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        bands = {"by_source_length": [band._asdict() for band in self.bands]} if self.bands else {}
        return {**self.figures, **bands}


class Column(NamedTuple):
    """One column of a comparison's table."""

    title: str
    name: str  # of a figure of a training, or of its trial
    form: str
    more: bool | None = None  # whether more is better, or less; None: neither
    scale: float = 1.0


PARAMETERS = Column("parameters", "params", "{:,.0f}", more=False)
TRAINS = Column("trains char/s", "train_speed", "{:,.0f}", more=True)
WRITES = Column("writes char/s", "write_speed", "{:,.0f}", more=True)
MEMORY = Column("peak MB", "peak_memory", "{:,.0f}", more=False, scale=1e-6)


class Kind(ABC):
    """A kind of data. It has no instances: the name in a run's config.json leads to the class.

    Where a `writer` is an argument it is a run that was opened, or a model in training (`charlm.writer.Writer`).
    """

    noun: ClassVar[str]  # what it is called: "trained on ...", "reads no ..."
    files: ClassVar[str] = ""  # in which it comes, where that is not just any file
    unit: ClassVar[str] = "characters"  # what its parts are counted in
    Settings: ClassVar[type[DataSettings]] = DataSettings
    own: ClassVar[tuple[str, ...]] = ("seq_len", "batch_size", "order")  # settings that mean nothing for some others
    rows: ClassVar[str] = "text"  # what its batches hold, by the word that objectives use: windows of a text, or others
    long: ClassVar[str | None] = None  # the recipe that is added where the budget is `config.LONG` minutes or more
    has_source: ClassVar[bool] = False  # whether something is read first, perhaps from files of its own
    arch: ClassVar[str] = "lstm"  # trained where nothing is said
    entrants: ClassVar[str] = "lstm,gru"  # compared where nothing is said
    batch_flags: ClassVar[str] = "--batch-size or --seq-len"  # what makes a batch smaller
    batches: ClassVar[Mapping[str, Any]] = {"batch_size": TrainSettings.batch_size}
    """Settings of batches that are the same for all in a comparison, and what they are where nothing is said."""
    figures: ClassVar[tuple[str, ...]] = ()  # what a trial says of quality, to be shown beside the score
    columns: ClassVar[tuple[Column, ...]] = (PARAMETERS, TRAINS, MEMORY)  # of a comparison, beside the score
    option: ClassVar[str] = "text"  # with which other data of the kind are named: --text FILE
    scored: ClassVar[str] = "{bytes} bytes to be scored on"  # a part, in words; {size} is in units
    unequal: ClassVar[str] = "these runs are not scored on the same data, so their scores do not compare"
    uses: ClassVar[str] = "score it with charlm eval"  # what to do with a run, where it cannot do what was asked for

    @classmethod
    def name(cls) -> str:
        """That of its file."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @classmethod
    def named(cls, file: str, encoding: str) -> bool:  # noqa: ARG003
        """Whether a file is named as one of this kind, and is none of another as far as can be seen."""
        return False

    @classmethod
    def claims(cls, corpus: Corpus) -> bool:  # noqa: ARG003
        """Whether the name of a text or its first lines say that it is of this kind.

        Raises `CorpusError` for files of which some are and some are not.
        """
        return False

    @classmethod
    def of(cls, corpus: Corpus, targets: Corpus | None) -> AnyCorpus:  # noqa: ARG003
        """What the files hold, read as this kind."""
        return corpus

    @classmethod
    def open(cls, paths: Sequence[str | Path], targets: Sequence[str | Path], encoding: str) -> AnyCorpus:
        """Raises what `Corpus.open` raises."""
        return cls.of(Corpus.open(paths, encoding), Corpus.open(targets, encoding) if targets else None)

    @classmethod
    @abstractmethod
    def prepare(
        cls, corpus: Any, settings: Any, cache_dir: Path | None, vocabularies: Vocabularies | None = None
    ) -> Generator[Progress, None, AnyStore]:
        """The data as ids. `vocabularies` are those that were learnt from the same data before, if they were.

        Raises `CorpusError` if there are too few.
        """

    @classmethod
    @abstractmethod
    def read(cls, corpus: Any, settings: Any, vocabularies: Vocabularies) -> Generator[Progress, None, AnyStore]:
        """Other data as a run reads them, all in the part to train on. Raises `VocabularyError` for what it cannot."""

    @classmethod
    def lengths(cls, data: Any, train: TrainSettings) -> Lengths:  # noqa: ARG003
        """Those of a network for data that leave room for what was asked for."""
        return Lengths.of_text(train.seq_len)

    @classmethod
    def size(cls, part: Any) -> int:
        """Of a part of the data, in units."""
        return int(part.chars)

    @classmethod
    def shortened(cls, store: Any, train: TrainSettings) -> str:  # noqa: ARG003
        """What to say where the data allow only smaller batches than were asked for."""
        return ""

    @classmethod
    def glimpse(cls, writer: Any, store: Any, seed: int) -> str:  # noqa: ARG003
        """A little of what a model writes on its way through a training."""
        return ""

    @classmethod
    def baselines(cls, store: Any) -> Baselines | None:  # noqa: ARG003
        """What simple methods reach on the validation part, in bits per byte."""
        return None

    @classmethod
    def trial(
        cls,
        writer: Any,  # noqa: ARG003
        part: Any,  # noqa: ARG003
        how: Any = None,  # noqa: ARG003
        like: Any = None,  # noqa: ARG003
    ) -> Generator[Progress, None, Trial]:
        """Have a run write: how fast, and where `figures` are named also how well.

        `how` says how it writes, as settings; `like` is the same part as it was read for another run, whose lengths
        count for all.
        """
        yield from ()
        return Trial()

    @classmethod
    def command(cls, network: type) -> str:  # noqa: ARG003
        """What a person types next, after the training of such a network."""
        return "eval"

    @classmethod
    def passage(cls, store: Any) -> str:  # noqa: ARG003
        """The beginning of the validation part, to be shown with what each character costs a model."""
        return ""

    @classmethod
    def sample(cls, writer: Any) -> str:  # noqa: ARG003
        """A text of a model, for a page."""
        return ""

    @classmethod
    def equal(cls, parts: Sequence[Any]) -> bool:
        """Whether parts that were prepared in different ways hold the same data."""
        return len({(part.bytes, part.chars) for part in parts}) < 2

    @classmethod
    def step_size(cls, plan: Any) -> object:
        """Equal for plans of which equally many steps see the same data."""
        return plan.train.accumulate, plan.train.seq_len

    @classmethod
    def level(cls, plans: Sequence[Any], stores: Sequence[Any]) -> list[Any]:  # noqa: ARG003
        """The plans of a comparison, changed so that all see the same data in the same order."""
        return list(plans)
