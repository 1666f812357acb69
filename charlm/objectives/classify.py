"""Say to which class a whole text belongs.

A head of classes is put on a network of any architecture (`_classifier.py`). With `--lm-share` a network that reads
from left to right goes on guessing each next token (Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training", section 3.2, equation 5, where the share is a half).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from charlm.config import Arg, DataSpec, TrainSettings, flag
from charlm.errors import SettingsError
from charlm.model import PAD, Encoder, EncoderDecoder, LanguageModel, Network, State, TwoWay
from charlm.objectives._base import Arrays, Batch, Loss, Objective, summed_nats
from charlm.objectives._classifier import Classifier, Pool
from charlm.progress import Progress, result
from charlm.score import Measure, Score
from charlm.text.buckets import Buckets, EncodedLines
from charlm.text.label_store import text_rows
from charlm.text.vocabulary import Vocabularies

ACCURACY = Measure("accuracy", "accuracy", more=True, scored="text")
AT_ONCE = 8192  # tokens of texts that are read together, padding included


@dataclass(frozen=True)
class Classify(Objective):
    pool: Annotated[
        Literal["auto", "last", "first", "mean", "concat"],
        Arg(
            "what the class is told from; auto: of a recurrent network concat, of a causal transformer last, else mean"
        ),
    ] = "auto"
    head_dropout: Annotated[float, Arg("on what the head of classes reads", min=0, max=0.95)] = 0.1
    lm_share: Annotated[
        float, Arg("weight of the loss of guessing each next token, in models that read left to right", min=0, max=100)
    ] = 0.0

    features: Annotated[
        bool, Arg("the network stays as it is, and the head reads a learned mix of its layers, as with ELMo")
    ] = False

    kind = "labels"
    needs = Network
    measure: ClassVar[Measure] = ACCURACY
    command = "classify"

    @classmethod
    def suits(cls, network: type[Network]) -> bool:
        return issubclass(network, LanguageModel | Encoder) and not issubclass(network, EncoderDecoder)

    @property
    def starts_from_run(self) -> bool:
        return self.features

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features and self.lm_share:
            raise SettingsError(
                "--lm-share lets the network go on learning, and with --features it stays as it is; leave one of them "
                "out",
                field="lm_share",
            )

    def check_training(self, settings: TrainSettings) -> None:
        for name, plain in (("unfreeze", "all"), ("layer_decay", 1.0)):
            if self.features and getattr(settings, name) != plain:
                raise SettingsError(
                    f"{flag(name)} is for a network that learns, and with --features it stays as it is; leave one of "
                    "them out",
                    field=name,
                )

    def equip(self, body: Network) -> Network:
        """A fresh head on the body. Raises `SettingsError` for what the body cannot do."""
        causal = isinstance(body, LanguageModel)
        if self.lm_share and not causal:
            raise SettingsError("--lm-share is for models that read from left to right; leave it out", field="lm_share")
        if self.pool == "first" and causal:
            raise SettingsError(
                "--pool first is for models that read both ways: from left to right the first place knows of nothing; "
                "give last, mean or concat",
                field="pool",
            )
        recurrent = isinstance(body, TwoWay) or (isinstance(body, LanguageModel) and body.window is None)
        own: Pool = "concat" if recurrent else "last" if causal else "mean"
        pool = own if self.pool == "auto" else self.pool
        return Classifier(body, pool, self.head_dropout, guesses=self.lm_share > 0, frozen=self.features)

    def batch(self, rows: Arrays, spec: DataSpec, rng: torch.Generator) -> Batch:  # noqa: ARG002
        labels, texts = rows
        return Batch(texts, labels)

    def loss(self, network: Any, batch: Batch, state: State) -> Loss:
        answer, texts = network(batch.tokens), len(batch.tokens)
        nats = summed_nats(answer.logits[:, None], batch.targets)
        penalties = [] if answer.penalty is None else [answer.penalty * texts]
        if answer.guesses is not None:
            following = batch.tokens[:, 1:]
            guessed = summed_nats(answer.guesses[:, :-1], following) / (following != PAD).sum()
            penalties.append(self.lm_share * texts * guessed)
        return Loss(nats, state, sum(penalties) if penalties else None)

    def score(self, network: Any, part: Any) -> Generator[Progress, None, Score]:
        """The share of texts whose likeliest class is theirs; of a learned mix, what it is made of, too."""
        return label_score(network, part, (yield from class_logits(network, part.texts)))


def class_logits(network: Any, texts: EncodedLines) -> Generator[Progress, None, NDArray[np.float32]]:
    """(texts, K) of every text, in their order; those alike in length are read together."""
    network.eval()
    device = next(network.parameters()).device
    buckets = Buckets(texts.sizes, lambda numbers: (text_rows(texts, numbers),), 0, batch_tokens=AT_ONCE, seed=0)
    order, _ = buckets.epoch(0)
    logits = np.zeros((len(texts), network.spec.classes), np.float32)
    for first, end in pairwise(buckets.borders):
        (tokens,) = buckets.rows(order[first:end])
        with torch.inference_mode():
            logits[order[first:end]] = network(torch.from_numpy(tokens).to(device)).logits.float().cpu().numpy()
        yield Progress("scoring", end, len(texts))
    return logits


def class_shares(
    network: Any, vocabularies: Vocabularies, texts: Sequence[str], unknown: str = "error"
) -> list[list[tuple[str, float]]]:
    """(class, share) of every text, the likeliest first. Newlines count as spaces, and what is too long is cut off.

    Raises `VocabularyError` for characters that the vocabulary lacks, unless `unknown` is `skip` or `nearest`.
    """
    if not texts:
        return []
    tokenizer, longest = vocabularies.target, longest_text(network)
    encoded = [tokenizer.encode(" ".join(text.split("\n")).strip(), unknown)[:longest] for text in texts]
    lines = [np.append(ids, tokenizer.newline) for ids in encoded]
    ends = np.cumsum([0, *map(len, lines)])
    logits = result(class_logits(network, EncodedLines(np.concatenate(lines), ends)))
    shares = torch.from_numpy(logits).double().softmax(1).tolist()
    return [sorted(zip(vocabularies.classes, row, strict=True), key=lambda pair: -pair[1]) for row in shares]


def longest_text(network: Network) -> int:
    """In tokens: a newline before it and one after it are read, too."""
    return network.spec.lengths.training - 2


def label_score(network: Any, part: Any, logits: NDArray[np.float32]) -> Score:
    """What the logits (texts, K) of a part come to; one that is no number is wrong."""
    labels = torch.from_numpy(part.labels)
    nats = float(F.cross_entropy(torch.from_numpy(logits).double(), labels))
    right = float((logits.argmax(1) == part.labels).mean()) if np.isfinite(logits).all() else float("nan")
    figures = {} if network.mix is None else network.mix.figures()
    return Score(right, nats, part.count, part.chars, part.bytes, int(part.texts.sizes.max()) + 1, ACCURACY, figures)
