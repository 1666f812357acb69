"""`Run`, a trained run in Python: it writes, scores, and shows its inside."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from charlm.api import tables
from charlm.api.keywords import in_python, keyword_errors, name_of, names_of
from charlm.config import fields_of
from charlm.errors import SettingsError
from charlm.inside import attend, choose, context, explain, fill, lens, neurons, novelty, surprise
from charlm.inside.choose import Answers
from charlm.inside.context import Reach
from charlm.inside.explain import Explanation
from charlm.inside.fill import Filled
from charlm.inside.lens import Lens
from charlm.inside.neurons import Neurons
from charlm.inside.novelty import Examined
from charlm.inside.surprise import Surprise
from charlm.progress import Progress
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.runs.standing import curve_of
from charlm.sampling.settings import Request, TranslateSettings
from charlm.scoring import training_text
from charlm.text.corpus import Corpus
from charlm.views import attend as attention_views
from charlm.views import choose as choose_views
from charlm.views import console, notebook
from charlm.views import context as context_views
from charlm.views import explain as explain_views
from charlm.views import fill as fill_views
from charlm.views import learning as learning_views
from charlm.views import lens as lens_views
from charlm.views import neurons as neuron_views
from charlm.views import novelty as novelty_views
from charlm.views import score as score_views
from charlm.views.shown import Result
from charlm.views.texts import Classes, RestoredText, Sample, Translations
from charlm.writer import Writer
from charlm.written import collect

R = TypeVar("R")


def watch(work: Generator[Progress, None, R]) -> R:
    """The result of long work, with a bar in a terminal or a notebook."""
    return notebook.watch(work) if console.in_notebook() else console.watch(work)


@in_python
def load(run: str | Path | Run = "last", **opening: Any) -> Run:
    """See `charlm.load`."""
    known = [field.name for field in fields_of(Opening)]
    for name in sorted(opening.keys() - set(known)):
        raise SettingsError(f"{name} is no setting of an opened run; there are {', '.join(known)}", field=name)
    return Run.load(name_of(run), Opening(**opening))


class Run(Writer):
    """A run that is open. What its methods return is drawn in a notebook, printed as text elsewhere, and has
    `to_dict()`, the numbers that the command of the same name gives with `--json`, and `to_pandas()`.

    Keywords are the options of that command. Errors are `charlm.errors.CharlmError`s that name keywords.
    """

    path: Path
    opening: Opening

    @classmethod
    def load(cls, run: str | Path = "last", opening: Opening | None = None) -> Run:
        """Open a run folder; see `charlm.load`."""
        with keyword_errors():
            path = folder.find(run)
            opened = super().load(path, opening)
        opened.path, opened.opening = path, opening or Opening()
        return opened

    def __repr__(self) -> str:
        return f"charlm.load({str(self.path)!r})"

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """Yield what follows the prompt, token by token; see `Writer.stream`."""
        with keyword_errors():
            yield from super().stream(prompt, **settings)

    @in_python
    def sample(self, prompt: str = "", length: int = Request.length, **settings: Any) -> Sample:
        """The text of `length` tokens after the prompt, or fewer up to a `stop`. It is a `str`.

        `settings` are fields of `charlm.sampling.settings.Request`; without `seed` the text is always the same. Of
        several `samples` the first is given, and `all` has each of them. `novel` looks into the training text.
        """
        request = Request.of(**{"prompt": prompt, "length": length, "seed": 0, **settings})
        if not request.length:
            raise SettingsError("--length 0 writes without end; give a length, or use stream", field="length")
        known = watch(training_text(folder.info(self.path))).text if request.novel else ""
        return Sample.of(watch(collect("writing", self.pieces(request, known=known), request)), request)

    @in_python
    def score(self, text: str) -> Result[Surprise]:
        """How much each character of `text` surprises the model; `bits_per_byte` is the whole text's score."""
        value = watch(surprise.surprise(self, text))
        return Result(value, lambda: score_views.view(value), value.to_json, lambda: tables.of_surprise(value))

    @in_python
    def explain(self, prompt: str = "", top: int = 12, **settings: Any) -> Result[Explanation]:
        """How likely the `top` tokens are after the prompt, before and after each filter of `settings`."""
        request = Request.of(prompt=prompt, **settings)
        value = explain.explain(self, request, top)
        return Result(
            value,
            lambda: explain_views.view(value, prompt),
            lambda: {"prompt": prompt, **value.to_json()},
            lambda: tables.of_explanation(value),
        )

    @in_python
    def attend(
        self,
        text: str,
        *,
        source: str | None = None,
        layer: int | None = None,
        head: int | None = None,
        all: bool = False,
    ) -> Result[Any]:
        """Where the model looks: of one layer and head (from 1), of the last layer and the mean of its heads, or of
        `all` heads of all layers."""
        if all and (layer, head) != (None, None):
            raise SettingsError("--all shows every head of every layer; leave out --layer and --head, or --all")
        heads = attend.attend_all(self, text, source=source)
        if all:
            return Result(
                heads, lambda: attention_views.Thumbnails(heads), heads.to_json, lambda: tables.of_heads(heads)
            )
        value = heads.chosen(layer, head)
        return Result(
            value, lambda: attention_views.AttentionMap(value), value.to_json, lambda: tables.of_attention(value)
        )

    @in_python
    def neurons(
        self,
        text: str,
        *,
        layer: int | None = None,
        unit: int | None = None,
        gate: str | None = None,
        find: str | None = None,
        top: int = 5,
    ) -> Result[Neurons]:
        """Single units while the text is read: see `charlm.inside.neurons.neurons`."""
        value = neurons.neurons(self, text, layer=layer, unit=unit, gate=gate, find=find, top=top)
        return Result(value, lambda: neuron_views.Traces(value), value.to_json, lambda: tables.of_neurons(value))

    @in_python
    def lens(self, text: str, source: str | None = None) -> Result[Lens]:
        """What the model would guess after each of its layers."""
        value = lens.lens(self, text, source=source)
        return Result(value, lambda: lens_views.GuessTable(value), value.to_json, lambda: tables.of_lens(value))

    @in_python
    def context(self, text: Any = None, positions: int = 500) -> Result[Reach]:
        """The score by the number of tokens in sight, on the run's validation text or on that of the files `text`."""
        other = Corpus.open(names_of(text) or []) if text is not None else None
        opening = replace(self.opening, quantize=None)
        value = watch(context.reach(self.path, text=other, positions=positions, opening=opening))
        return Result(
            value,
            lambda: context_views.view(value),
            value.to_json,
            lambda: [point._asdict() for point in value.contexts],
        )

    @in_python
    def curves(self) -> Result[list[Any]]:
        """The scores of all validations while it was trained, and the training loss."""
        info = folder.info(self.path)
        points, losses = curve_of(info, info.measure), learning_views.losses(info)
        return Result(
            points,
            lambda: learning_views.view(info, points),
            lambda: {"run": str(self.path), "curve": tables.of_curve(points, losses, info.measure)},
            lambda: tables.of_curve(points, losses, info.measure),
            lambda: learning_views.html(info, points),
        )

    @in_python
    def fill(self, text: str, top: int = 5) -> Result[Filled]:
        """The likeliest tokens for each `[MASK]` of a text."""
        value = watch(fill.fill(self, text, top))
        return Result(value, lambda: fill_views.view(value), value.to_json, lambda: tables.of_filled(value))

    @in_python
    def choose(self, prompt: str, choice: Sequence[str], neutral: str = "") -> Result[Answers]:
        """Which of several continuations is the likeliest after a prompt."""
        question = choose.checked(choose.Question(prompt, list(choice)))
        value = watch(choose.choose(self, [question], neutral=neutral))
        return Result(
            value,
            lambda: choose_views.ranking(value.answered[0]),
            value.to_json,
            lambda: tables.of_answers(value),
        )

    @in_python
    def novelty(
        self, text: str | None = None, *, length: int = 2000, temperature: str | float = "0.8", seed: int = 0
    ) -> Result[Examined]:
        """How much of `text`, or of `length` characters that the run writes, is copied from its training text."""
        trained = watch(training_text(folder.info(self.path)))
        if text is None:
            text = watch(novelty.written(self, length, temperature=str(temperature), seed=seed))
        value = watch(novelty.examine(text, trained))
        return Result(
            value,
            lambda: novelty_views.view(value),
            lambda: {"run": str(self.path), **value.to_json()},
            lambda: tables.of_copies(value),
        )

    @in_python
    def translate(
        self, sources: str | Sequence[str], settings: TranslateSettings | None = None, **options: Any
    ) -> Translations:
        """The translations of one line or several, a list for each. `options` are fields of `TranslateSettings`, such
        as `beam`, or arguments of `charlm.sampling.translate.translating`."""
        lines = [sources] if isinstance(sources, str) else sources
        settings = chosen(settings, options)
        return Translations(lines, watch(self.translating(lines, settings, **options)))

    @in_python
    def restore(self, text: str, settings: TranslateSettings | None = None, **options: Any) -> RestoredText:
        """The clean text of a damaged one, in which `[MASK]` stands for what is missing. It is a `str`."""
        settings = chosen(settings, options)
        return RestoredText.of(watch(self.restoring(self.damaged_pieces(text, settings.unknown), settings, **options)))

    @in_python
    def classify(self, texts: str | Sequence[str], unknown: str = "error") -> Classes:
        """The classes of one text or several with their shares, a list for each, the likeliest first."""
        several = [texts] if isinstance(texts, str) else texts
        return Classes(several, super().classify(several, unknown))


def chosen(settings: TranslateSettings | None, options: dict[str, Any]) -> TranslateSettings:
    """The settings, or those made of the `options` that are some, which are taken out."""
    names = {field.name for field in fields_of(TranslateSettings)} & options.keys()
    taken = {name: options.pop(name) for name in names}
    return settings or TranslateSettings.of(**taken)
