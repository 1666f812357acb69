"""A trained run, opened: it writes, it scores, and it shows its model and tokenizer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlm.config import PairSettings
from charlm.device import choose_device
from charlm.errors import RunError, SettingsError, VocabularyError
from charlm.model import LanguageModel
from charlm.plan import Plan
from charlm.progress import Progress, result
from charlm.quantize import quantize as round_weights
from charlm.runs import checkpoint, folder
from charlm.sampling.filters import Picker
from charlm.sampling.generate import fetched, generate
from charlm.sampling.noise import streams
from charlm.sampling.novel import Copies, Passages
from charlm.sampling.settings import SampleSettings, TranslateSettings
from charlm.sampling.shared import SharedPicker
from charlm.sampling.stream import until_stop
from charlm.sampling.translate import Translation, translating
from charlm.text.pair_store import reach
from charlm.text.tokenizers import utf8
from charlm.text.vocabulary import Vocabularies
from charlm.training.evaluate import Score, evaluate

UNKNOWN = "or give --unknown skip or --unknown nearest"
NO_TEXT = (
    "this run was trained on pairs: it reads a source and writes a target; "
    "use charlm translate, charlm eval, or charlm attend --source TEXT --text TEXT"
)
WEIGHTS = {"best": "model.safetensors", "last": "last.safetensors"}


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

    def __init__(self, model: LanguageModel, vocabularies: Vocabularies, *, pairs: bool = False) -> None:
        self.model, self.vocabularies = model.eval(), vocabularies
        self.source_tokenizer, self.tokenizer = vocabularies
        self.pairs = pairs  # trained to read a source and write a target, and not to go on with a text
        self.device = next(model.parameters()).device

    @classmethod
    def load(
        cls, run: str | Path = "last", *, weights: str = "best", device: str = "auto", quantize: str | None = None
    ) -> Writer:
        """Open a run folder; see `charlm.load`."""
        if weights not in WEIGHTS:
            raise SettingsError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
        if quantize not in (None, "int8"):
            raise SettingsError(f"quantize must be int8 or None, got {quantize!r}")
        path = folder.find(run)
        config = folder.info(path).config
        vocabularies = Vocabularies.from_json(folder.read_json(path / "tokenizer.json"))
        if vocabularies.sha256 != config.get("tokenizer_sha256"):
            raise RunError(f"{path / 'tokenizer.json'} is not the vocabulary that this run was trained with")
        plan = Plan.from_dict(config)
        longest = reach(plan.data) if isinstance(plan.data, PairSettings) else plan.train.seq_len
        if not 2 <= config["seq_len"] <= longest:
            raise RunError(f"{path / 'config.json'} does not describe a run: its seq_len is {config['seq_len']}")
        spec = vocabularies.spec(config["seq_len"])
        try:  # what is expected is known before any memory is taken
            tensors, _ = checkpoint.read_weights(path / WEIGHTS[weights], plan.outline(spec))
            model = plan.build(spec)
            checkpoint.set_weights(model, tensors, path / WEIGHTS[weights])
        except RunError as error:
            other = next(name for name in WEIGHTS if name != weights)
            hint = f"; --weights {other} may be whole" if (path / WEIGHTS[other]).exists() else ""
            raise RunError(f"{error}{hint}") from None
        model = model.to(choose_device(device))
        if quantize:
            round_weights(model)
        return cls(model, vocabularies, pairs=plan.pairs)

    def pieces(
        self,
        prompt: str,
        settings: SampleSettings,
        *,
        samples: int = 1,
        seed: int = 0,
        unknown: str = "error",
        novel: int = 0,
        known: str = "",
        shared: bool = False,
    ) -> Iterator[Piece]:
        """Continue a prompt in `samples` rows, token by token, without end. An empty prompt is a blank page. What row
        number i draws depends on the seed and i alone.

        With `novel`, at most so many characters in a row are copied from `known`, the training text. With `shared`, the
        one row draws the same noise as that of any other model with this seed.

        Raises `VocabularyError` for characters of the prompt that the tokenizer cannot spell, unless `unknown` is
        `skip` or `nearest`; `SettingsError` for `novel` without `known`, and below 0.
        """
        self.refuse_pairs()
        try:
            ids = self.tokenizer.encode(prompt, unknown)
        except VocabularyError as error:
            raise VocabularyError(f"{error}; {UNKNOWN}") from None
        start = torch.from_numpy(ids if len(ids) else np.array([self.tokenizer.start]))[None].to(self.device)  # (1, P)
        recent, copies = start.expand(samples, -1), None
        if novel:
            if novel < 0 or not known:
                raise SettingsError(f"novel is 0 or more and needs the training text as known, got {novel}")
            copies = Copies(Passages(known, novel + 1), self.tokenizer, prompt, samples)
        if shared:
            pick: Picker = SharedPicker(settings, seed, self.tokenizer.tokens, recent, copies)
        else:
            pick = Picker(settings, streams(seed, range(samples), self.device), recent, copies)
        decoders = [self.tokenizer.decoder() for _ in range(samples)]
        steps = generate(self.model, start, pick, samples=samples)
        for row, tokens, logits in fetched(steps):
            yield Piece([d.feed(token) for d, token in zip(decoders, row, strict=True)], tokens, logits)

    def stream(
        self,
        prompt: str = "",
        *,
        temperature: float | str | Sequence[float] = SampleSettings.temperature,
        top_k: int = SampleSettings.top_k,
        top_p: float = SampleSettings.top_p,
        min_p: float = SampleSettings.min_p,
        repetition_penalty: float = SampleSettings.repetition_penalty,
        seed: int = 0,
        unknown: str = "error",
    ) -> Iterator[str]:
        """One token's text at a time, without end; `pieces` says more."""
        cycle = [temperature] if isinstance(temperature, (int, float, str)) else temperature
        settings = SampleSettings(",".join(map(str, cycle)), top_k, top_p, min_p, repetition_penalty)
        for piece in self.pieces(prompt, settings, seed=seed, unknown=unknown):
            yield piece.texts[0]

    def sample(self, prompt: str = "", length: int = 500, *, stop: Sequence[str] = (), **how: float) -> str:
        """The text of `length` tokens after the prompt, or less where a stop string comes; `how` as in `stream`."""
        return "".join(until_stop(islice(self.stream(prompt, **how), length), stop))  # type: ignore[arg-type]

    def translate(
        self, sources: Sequence[str], settings: TranslateSettings | None = None, **how: Any
    ) -> list[list[Translation]]:
        """`translating`, done."""
        return result(self.translating(sources, settings or TranslateSettings(), **how))

    def translating(
        self, sources: Sequence[str], settings: TranslateSettings, **how: Any
    ) -> Generator[Progress, None, list[list[Translation]]]:
        """Of each source its translations, the best first; `charlm.sampling.translate.translating` says how.

        Raises `SettingsError` for a run that was not trained on pairs, `VocabularyError` as `pieces` does.
        """
        if not self.pairs:
            raise SettingsError("this run was trained on a running text and translates nothing; see charlm sample")
        try:
            return (yield from translating(self.model, self.vocabularies, sources, settings, **how))
        except VocabularyError as error:
            raise VocabularyError(f"{error}; {UNKNOWN}") from None

    def score(self, text: str) -> Score:
        """What the text costs this model, in bits per byte and more. Raises as `pieces` does, and for an empty text."""
        return result(self.scoring(text))

    def refuse_pairs(self) -> None:
        """Raise `SettingsError` if the model does not go on with a text."""
        if self.pairs:
            raise SettingsError(NO_TEXT)

    def scoring(self, text: str) -> Generator[Progress, None, Score]:
        """`score` as long work that can be watched."""
        self.refuse_pairs()
        if not text:
            raise SettingsError("there is no text to score: it is empty")
        ids = self.tokenizer.encode(text)
        start = np.array([self.tokenizer.start])
        return (yield from evaluate(self.model, ids, start, chars=len(text), bytes=len(utf8(text))))
