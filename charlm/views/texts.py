"""Texts that a run wrote: they are texts, and lists of them lists, and know how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from charlm.text.visible import printable
from charlm.views.console import table
from charlm.views.shown import Records, Shown

if TYPE_CHECKING:
    from charlm.sampling.restore import Restored
    from charlm.sampling.settings import Request
    from charlm.sampling.translate import Translation
    from charlm.written import Row


class Sample(str, Shown):
    """What was written after a prompt. Of several texts it is the first; `all` has each of them."""

    prompt: str
    seed: int
    tokens: list[dict[str, Any]]  # {"text", "logprob"}: nats, before temperature and filters
    all: list[Sample]

    @classmethod
    def of(cls, written: Sequence[Row], request: Request) -> Sample:
        samples: list[Sample] = []
        for row in written:
            said = row.to_json(request)
            sample = cls(said["text"])
            sample.prompt, sample.seed, sample.tokens = said["prompt"], said["seed"], said["tokens"]
            sample.all = samples
            samples.append(sample)
        return samples[0]

    def view(self) -> RenderableType:
        texts = [Text.assemble((printable(self.prompt), "dim"), printable(sample)) for sample in self.all]
        return Text("\n" + "-" * 40 + "\n").join(texts)

    def to_dict(self) -> dict[str, Any]:
        """That of this text; `all` has those of the others."""
        return {"prompt": self.prompt, "text": str(self), "seed": self.seed, "tokens": self.tokens}

    def records(self) -> Records:
        return [{"sample": n, **token} for n, sample in enumerate(self.all, 1) for token in sample.tokens]


class RestoredText(str, Shown):
    """The clean text of a damaged one, with the `pieces` in which it was read."""

    pieces: list[Restored]

    @classmethod
    def of(cls, pieces: list[Restored]) -> RestoredText:
        text = cls("".join(piece.text for piece in pieces))
        text.pieces = pieces
        return text

    def view(self) -> RenderableType:
        return Text(printable(self))

    def to_dict(self) -> dict[str, Any]:
        return {"text": str(self), "pieces": self.records()}

    def records(self) -> Records:
        return [piece._asdict() for piece in self.pieces]


class Translations(Shown, list["list[Translation]"]):
    """For every source its translations, the best first."""

    def __init__(self, sources: Sequence[str], translations: list[list[Translation]]) -> None:
        super().__init__(translations)
        self.sources = list(sources)

    def view(self) -> RenderableType:
        lines = table("source", "translation", ">log-probability")
        for row in self.records():
            lines.add_row(Text(row["source"]), Text(row["text"]), f"{row['log_probability']:.3f}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        fields = ("text", "log_probability", "finished")
        return {
            "translations": [
                {
                    "source": source,
                    "source_cut": any(t.cut for t in best),
                    "translations": [{name: getattr(t, name) for name in fields} for t in best],
                }
                for source, best in zip(self.sources, self, strict=True)
            ]
        }

    def records(self) -> Records:
        return [
            {"source": one["source"], **translation}
            for one in self.to_dict()["translations"]
            for translation in one["translations"]
        ]


class Classes(Shown, list["list[tuple[str, float]]"]):
    """For every text its classes with their shares, the likeliest first."""

    def __init__(self, texts: Sequence[str], shares: list[list[tuple[str, float]]]) -> None:
        super().__init__(shares)
        self.texts = list(texts)

    def view(self) -> RenderableType:
        lines = table("text", "class", ">share")
        for text, ((label, share), *_) in zip(self.texts, self, strict=True):
            lines.add_row(Text(printable(text)), Text(label), f"{share:.1%}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        both = zip(self.texts, self, strict=True)
        return {"texts": [{"text": text, "label": shares[0][0], "shares": dict(shares)} for text, shares in both]}

    def records(self) -> Records:
        both = zip(self.texts, self, strict=True)
        return [{"text": text, "label": label, "share": share} for text, shares in both for label, share in shares]
