"""A trained run, opened: it writes, it scores, and it shows its model and tokenizer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlm import kinds, objectives
from charlm.config import Lengths
from charlm.device import choose_device
from charlm.errors import RunError, SettingsError, VocabularyError
from charlm.evaluate import evaluate
from charlm.model import LanguageModel
from charlm.objectives._base import Objective
from charlm.plan import Plan
from charlm.progress import Progress, result
from charlm.quantize import quantize as round_weights
from charlm.runs import checkpoint, folder
from charlm.runs.opening import Opening
from charlm.sampling.filters import Picker
from charlm.sampling.generate import fetched, generate
from charlm.sampling.noise import streams
from charlm.sampling.novel import Copies, Passages
from charlm.sampling.settings import Prompt, Request, TranslateSettings
from charlm.sampling.shared import SharedPicker
from charlm.sampling.steppers import KEPT, Steppers
from charlm.sampling.stream import until_stop
from charlm.sampling.translate import Translation, translating
from charlm.score import Score
from charlm.text.tokenizers import utf8
from charlm.text.vocabulary import Vocabularies

WEIGHTS = {"best": "model.safetensors", "last": "last.safetensors"}


@contextmanager
def naming_the_way_out() -> Iterator[None]:
    """What to do about characters that a vocabulary lacks."""
    try:
        yield
    except VocabularyError as error:
        raise VocabularyError(f"{error}; or give --unknown skip or --unknown nearest") from None


class Piece(NamedTuple):
    """One written token of each row."""

    texts: list[str]  # (B) what is certain of the text by now; empty while a UTF-8 character is incomplete
    ids: Tensor  # (B,)
    logits: Tensor  # (B, V) of the model itself, before any filter

    @property
    def logprobs(self) -> Tensor:
        """(B,) natural logarithm of the probability that the model itself gave to each token."""
        return self.logits.float().log_softmax(-1).gather(1, self.ids[:, None]).squeeze(1)


class Writer:
    """`charlm.load(...)`: `model(ids, state)` and `tokenizer` are open to use, the rest is for convenience."""

    def __init__(
        self,
        model: Any,
        vocabularies: Vocabularies,
        *,
        kind: str = kinds.TEXT,
        objective: Objective | None = None,
        kept: int = 0,
    ) -> None:
        """`kind` is that of the data that the model was trained on. `kept` steppers at most stay for the next text: of
        an opened run, not of a model that is being trained."""
        self.model, self.vocabularies = model.eval(), vocabularies
        self.objective = objective or objectives.load(model.objective)()
        self.steppers = Steppers(model, kept)
        self.source_tokenizer, self.tokenizer = vocabularies
        self.kind = kind
        self.device = next(model.parameters()).device

    @classmethod
    def load(cls, run: str | Path = "last", opening: Opening | None = None) -> Writer:
        """Open a run folder; see `charlm.load`."""
        opening, path = opening or Opening(), folder.find(run)
        config = folder.info(path).config
        vocabularies = Vocabularies.from_json(folder.read_json(path / "tokenizer.json"))
        if vocabularies.sha256 != config.get("tokenizer_sha256"):
            raise RunError(f"{path / 'tokenizer.json'} is not the vocabulary that this run was trained with")
        plan = Plan.from_dict(config)
        longest = plan.longest
        if config["lengths"].keys() != longest._asdict().keys() or not all(
            isinstance(config["lengths"][name], int) and 1 <= config["lengths"][name] <= most
            for name, most in longest._asdict().items()
        ):
            raise RunError(f"{path / 'config.json'} does not describe a run: its lengths are {config['lengths']}")
        spec = vocabularies.spec(Lengths(**config["lengths"]))
        file = path / WEIGHTS[opening.weights]
        try:  # what is expected is known before any memory is taken
            tensors, _ = checkpoint.read_weights(file, plan.outline(spec))
            model = plan.build(spec)
            checkpoint.set_weights(model, tensors, file)
        except RunError as error:
            other = next(name for name in WEIGHTS if name != opening.weights)
            hint = f"; --weights {other} may be whole" if (path / WEIGHTS[other]).exists() else ""
            raise RunError(f"{error}{hint}") from None
        model = model.to(choose_device(opening.device))
        if opening.quantize:
            round_weights(model)
        return cls(model, vocabularies, kind=plan.kind, objective=plan.objective, kept=KEPT)

    def pieces(self, request: Request, *, known: str = "", shared: bool = False) -> Iterator[Piece]:
        """Continue the prompt in `request.samples` rows, token by token. An empty prompt is a blank page. What row
        number i draws depends on the seed and i alone. Stop strings are for whoever joins the pieces (`until_stop`).

        With `request.novel`, at most so many characters in a row are copied from `known`, the training text. With
        `shared`, the one row draws the same noise as that of any other model with this seed.

        Raises `VocabularyError` for characters of the prompt that the tokenizer cannot spell, unless `unknown` is
        `skip` or `nearest`; `SettingsError` for `novel` without `known`.
        """
        start, rows, seed = self.encoded(request), request.samples, request.chosen_seed()  # (1, P)
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
            steps = islice(generate(self.model, start, pick, samples=rows, step=step), request.length or None)
            for row, tokens, logits in fetched(steps):
                yield Piece([d.feed(token) for d, token in zip(decoders, row, strict=True)], tokens, logits)

    def encoded(self, text: Prompt) -> Tensor:
        """The tokens (1, P), P >= 1, that a text begins with. Raises as `pieces` does."""
        self.must_go_on()
        with naming_the_way_out():
            ids = self.tokenizer.encode(text.prompt, text.unknown)
        return torch.from_numpy(ids if len(ids) else np.array([self.tokenizer.start]))[None].to(self.device)

    def stream(self, prompt: str = "", **how: Any) -> Iterator[str]:
        """One token's text at a time, without end where no `length` is given, and always the same where no `seed` is.

        `how` are settings of a `Request`, of which the first text is given; `Request.of` and `pieces` say more.
        """
        request = Request.of(**{"prompt": prompt, "length": 0, "seed": 0, **how})
        yield from until_stop((piece.texts[0] for piece in self.pieces(request)), request.stop)

    def sample(self, prompt: str = "", length: int = Request.length, **how: Any) -> str:
        """The text of `length` tokens after the prompt, or less where a `stop` comes; `how` as in `stream`."""
        return "".join(self.stream(prompt, length=length, **how))

    def translate(
        self, sources: Sequence[str], settings: TranslateSettings | None = None, **where: Any
    ) -> list[list[Translation]]:
        """`translating`, done."""
        return result(self.translating(sources, settings or TranslateSettings(), **where))

    def translating(
        self, sources: Sequence[str], settings: TranslateSettings, **where: Any
    ) -> Generator[Progress, None, list[list[Translation]]]:
        """Of each source its translations, the best first; `charlm.sampling.translate.translating` says how.

        Raises `SettingsError` for a run that was not trained on pairs, `VocabularyError` as `pieces` does.
        """
        kinds.refuse_another(self.kind, kinds.PAIRS)
        with naming_the_way_out():
            return (yield from translating(self.model, self.vocabularies, sources, settings, **where))

    def score(self, text: str) -> Score:
        """What the text costs this model, in bits per byte and more. Raises as `pieces` does, and for an empty text."""
        return result(self.scoring(text))

    @property
    def goes_on(self) -> bool:
        """Whether the model goes on with a text."""
        return self.kind == kinds.TEXT and isinstance(self.model, LanguageModel)

    def must_go_on(self) -> None:
        """Raise `SettingsError` if it does not."""
        kinds.refuse_another(self.kind, kinds.TEXT)
        if not self.goes_on:
            raise SettingsError("this model reads a text from both sides and cannot go on with it; see charlm eval")

    def scoring(self, text: str) -> Generator[Progress, None, Score]:
        """`score` as long work that can be watched."""
        self.must_go_on()
        if not text:
            raise SettingsError("there is no text to score: it is empty")
        ids = self.tokenizer.encode(text)
        start = np.array([self.tokenizer.start])
        return (yield from evaluate(self.model, ids, start, chars=len(text), bytes=len(utf8(text))))
