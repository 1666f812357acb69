"""`Writer`, a trained run that is open: it writes and scores, and has the run's model and tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from charlm import kinds, objectives
from charlm.device import choose_device, described
from charlm.errors import SettingsError, VocabularyError
from charlm.evaluate import evaluate
from charlm.model import LanguageModel, Stepper, parameter_count
from charlm.objectives._base import Objective
from charlm.objectives._restoring import Restoring
from charlm.objectives.classify import class_shares, longest_text
from charlm.progress import Progress, result
from charlm.quantize import quantize as round_weights
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.runs.saved import Saved
from charlm.sampling.faster import LARGE, seconds_per_token
from charlm.sampling.filters import Picker
from charlm.sampling.generate import fetched, generate
from charlm.sampling.noise import streams
from charlm.sampling.novel import Copies, Passages
from charlm.sampling.restore import Restored, pieces_of, restoring
from charlm.sampling.settings import Prompt, Request, SampleSettings, TranslateSettings
from charlm.sampling.shared import SharedPicker
from charlm.sampling.steppers import KEPT, Steppers
from charlm.sampling.stream import until_stop
from charlm.sampling.translate import Translation, translating
from charlm.score import Score
from charlm.text.tokenizers import utf8
from charlm.text.vocabulary import Vocabularies

W = TypeVar("W", bound="Writer")


@contextmanager
def unknown_hint() -> Iterator[None]:
    """Adds to a `VocabularyError` what can be done about characters that a vocabulary lacks."""
    try:
        yield
    except VocabularyError as error:
        raise VocabularyError(f"{error}; or give --unknown skip or --unknown nearest") from None


class Piece(NamedTuple):
    """The next token of every row."""

    texts: list[str]  # (B) text that is complete with this token; empty in the middle of a UTF-8 character
    ids: Tensor  # (B,)
    logits: Tensor | None  # (B, V) of the model, before temperature and filters; may be None if not asked for

    @property
    def logprobs(self) -> Tensor:
        """(B,) log-probabilities of the tokens, in nats, before temperature and filters."""
        assert self.logits is not None, "pieces were asked for without logits"
        return self.logits.float().log_softmax(-1).gather(1, self.ids[:, None]).squeeze(1)


class Writer:
    """An open run: `model(ids, state)`, `tokenizer`, and methods that write, translate and score."""

    def __init__(
        self,
        model: Any,
        vocabularies: Vocabularies,
        *,
        kind: str = kinds.TEXT,
        objective: Objective | None = None,
        kept: int = 0,
    ) -> None:
        """`kind` is the kind of data that the model was trained on; `kept` the number of steppers that are kept for the
        next text, 0 for a model that is being trained."""
        self.model, self.vocabularies = model.eval(), vocabularies
        self.objective = objective or objectives.load(model.objective)()
        self.steppers = Steppers(model, kept)
        self.source_tokenizer, self.tokenizer = vocabularies.sides
        self.kind = kind
        self.device = next(model.parameters()).device

    @classmethod
    def load(cls: type[W], run: str | Path = "last", opening: Opening | None = None) -> W:
        """Open a run folder; see `charlm.load`."""
        opening = opening or Opening()
        saved = Saved.open(folder.find(run))
        model = saved.network(opening.weights).to(choose_device(opening.device))
        if opening.quantize:
            round_weights(model)
        return cls(model, saved.vocabularies, kind=saved.plan.kind, objective=saved.plan.objective, kept=KEPT)

    def pieces(
        self, request: Request, *, known: str = "", shared: bool = False, logits: bool = True
    ) -> Iterator[Piece]:
        """Continue the prompt in `request.samples` rows, token by token, and yield a `Piece` for every token.

        An empty prompt begins a new text. The random numbers of row i depend on the seed and i alone. Stop strings are
        left to the caller (`until_stop`). With `request.novel`, at most so many characters in a row are copied from
        `known`, the training text. With `shared`, the single row draws the same random numbers in every model. Without
        `logits` a GPU need not keep them, and pieces have no log-probabilities.

        Raises `VocabularyError` for characters of the prompt that the tokenizer cannot spell, unless `unknown` is
        `skip` or `nearest`; `SettingsError` for `novel` without `known`.
        """
        start, rows, seed = self.prompt_ids(request), request.samples, request.chosen_seed()  # (1, P)
        recent, copies = start.expand(rows, -1), None
        if request.novel:
            if not known:
                raise SettingsError(
                    "--novel needs the training text; in Python: pieces(request, known=TEXT)", field="novel"
                )
            copies = Copies(Passages(known, request.novel + 1), self.tokenizer, request.prompt, rows)
        if shared:
            pick: Picker = SharedPicker(request, seed, self.tokenizer.tokens, recent, copies)
        else:
            pick = Picker(request, streams(seed, range(rows), self.device), recent, copies)
        decoders = [self.tokenizer.decoder() for _ in range(rows)]
        with self.steppers.lent(rows) as step:
            steps = generate(self.model, start, pick, samples=rows, step=step, logits=logits)
            for ids, tokens, guess in fetched(islice(steps, request.length or None)):
                yield Piece([d.feed(token) for d, token in zip(decoders, ids, strict=True)], tokens, guess)

    def move_to_faster(
        self, request: Request, seconds: Callable[[Any, Stepper, SampleSettings], float] = seconds_per_token
    ) -> str:
        """For one text: move from a GPU to the CPU where that writes faster, which is tried. One line that says so, or
        an empty one where there was nothing to choose. `seconds` measures a token."""
        if self.device.type == "cpu" or not self.can_continue or parameter_count(self.model) > LARGE:
            return ""
        on_cpu = Writer(deepcopy(self.model).cpu(), self.vocabularies, kept=self.steppers.capacity)
        speeds = []
        for writer in (on_cpu, self):
            with writer.steppers.lent(1) as step:
                speeds.append(1 / seconds(writer.model, step, request))
        cpu, gpu = (f"{speed:,.0f} on {described(w.device)}" for speed, w in zip(speeds, (on_cpu, self), strict=True))
        if speeds[0] <= speeds[1]:
            return f"tokens of this model per second: {gpu}, which writes; {cpu} (--device cpu)"
        line = f"tokens of this model per second: {cpu}, which writes; {gpu} (--device {self.device.type})"
        self.model, self.steppers, self.device = on_cpu.model, on_cpu.steppers, on_cpu.device
        return line

    def prompt_ids(self, prompt: Prompt) -> Tensor:
        """The token ids (1, P) of a prompt, P >= 1. Raises as `pieces` does."""
        self.check_can_continue()
        with unknown_hint():
            ids = self.tokenizer.encode(prompt.prompt, prompt.unknown)
        return torch.from_numpy(ids if len(ids) else np.array([self.tokenizer.start]))[None].to(self.device)

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """Yield what follows the prompt, one token's text at a time; without end unless `length` is given.

        `settings` are fields of `Request`, such as `temperature`, `top_k` or `stop`; without `seed` the text is always
        the same. Of several `samples` the first is given. Raises as `Request.of` and `pieces` do.
        """
        request = Request.of(**{"prompt": prompt, "length": 0, "seed": 0, **settings})
        yield from until_stop((piece.texts[0] for piece in self.pieces(request, logits=False)), request.stop)

    def sample(self, prompt: str = "", length: int = Request.length, **settings: Any) -> str:
        """The text of `length` tokens after the prompt, or fewer up to a `stop`; `settings` as in `stream`."""
        return "".join(self.stream(prompt, length=length, **settings))

    def translate(
        self, sources: Sequence[str], settings: TranslateSettings | None = None, **options: Any
    ) -> list[list[Translation]]:
        """The translations of every source, best first. Arguments and errors as in `translating`."""
        return result(self.translating(sources, settings or TranslateSettings(), **options))

    def translating(
        self, sources: Sequence[str], settings: TranslateSettings, **options: Any
    ) -> Generator[Progress, None, list[list[Translation]]]:
        """`translate` as a generator of its progress. `options` are those of `charlm.sampling.translate.translating`.

        Raises `SettingsError` for a run that was not trained on pairs, `VocabularyError` as `pieces` does.
        """
        self.refuse_other_commands("translate")
        kinds.refuse_another(self.kind, kinds.PAIRS)
        with unknown_hint():
            return (yield from translating(self.model, self.vocabularies, sources, settings, **options))

    def restore(self, text: str, settings: TranslateSettings | None = None) -> str:
        """The clean text of a damaged one, in which `[MASK]` stands for what is missing.

        Raises `SettingsError` for a run that was not trained to restore, `VocabularyError` as `pieces` does.
        """
        settings = settings or TranslateSettings()
        restored = result(self.restoring(self.damaged_pieces(text, settings.unknown), settings))
        return "".join(piece.text for piece in restored)

    def damaged_pieces(self, text: str, unknown: str = "error") -> list[list[int]]:
        """A damaged text as ids, in pieces that the model reads at once. Raises as `restore` does."""
        objective = self.check_can_restore()
        with unknown_hint():
            return pieces_of(text, objective, self.tokenizer, self.model.spec, unknown)

    def restoring(
        self, sources: Sequence[list[int]], settings: TranslateSettings, *, first: int = 0
    ) -> Generator[Progress, None, list[Restored]]:
        """What is written for damaged pieces, as ids, whose numbers count from `first`. Raises as `restore` does."""
        objective = self.check_can_restore()
        return (yield from restoring(self.model, objective, self.tokenizer, sources, settings, first=first))

    def classify(self, texts: Sequence[str], unknown: str = "error") -> list[list[tuple[str, float]]]:
        """(class, share) of every text, the likeliest class first; of a long text the beginning counts.

        Raises `SettingsError` for a run that was not trained on labelled texts, `VocabularyError` as `pieces` does.
        """
        self.refuse_other_commands("classify")
        kinds.refuse_another(self.kind, kinds.LABELS)
        with unknown_hint():
            return class_shares(self.model, self.vocabularies, texts, unknown)

    @property
    def longest_text(self) -> int:
        """How many tokens of a text `classify` reads."""
        return longest_text(self.model)

    @property
    def can_continue(self) -> bool:
        """Whether the model continues a text: a language model that was trained on running text for just that."""
        return self.kind == kinds.TEXT and isinstance(self.model, LanguageModel) and not self.objective.command

    @property
    def can_restore(self) -> bool:
        """Whether the model was trained to restore a damaged text."""
        return isinstance(self.objective, Restoring)

    def check_can_continue(self) -> None:
        """Raise `SettingsError` for a model that cannot continue a text."""
        self.refuse_other_commands()
        kinds.refuse_another(self.kind, kinds.TEXT)
        if not self.can_continue:
            raise SettingsError(
                f"this run was trained with --objective {self.objective.name()} and cannot go on with a text; see "
                "charlm eval"
            )

    def check_can_restore(self) -> Restoring:
        """The objective. Raises `SettingsError` for a model that was not trained to restore."""
        if isinstance(self.objective, Restoring):
            return self.objective
        self.refuse_other_commands("restore")
        kinds.refuse_another(self.kind, kinds.TEXT)
        command = "sample" if self.can_continue else "eval"
        raise SettingsError(
            f"this run was trained with --objective {self.objective.name()}, and not to restore; see charlm {command}, "
            "or train one with --arch encdec --objective denoise"
        )

    def refuse_other_commands(self, wanted: str = "") -> None:
        """Raise `SettingsError` for a run whose objective has a command of its own, which is not the one `wanted`."""
        if self.objective.command not in ("", wanted):
            raise SettingsError(
                f"this run was trained with --objective {self.objective.name()}; use charlm {self.objective.command}, "
                "or charlm eval"
            )

    def scoring(self, text: str) -> Generator[Progress, None, Score]:
        """How well the model predicts the text, in bits per byte. Raises as `pieces` does, and for an empty text."""
        self.check_can_continue()
        if not text:
            raise SettingsError("there is no text to score: it is empty")
        ids = self.tokenizer.encode(text)
        start = np.array([self.tokenizer.start])
        return (yield from evaluate(self.model, ids, start, chars=len(text), bytes=len(utf8(text))))
