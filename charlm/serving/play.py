"""A page on which runs write and are looked into: `/`, and JSON under `/play/`, each a thin layer over `inside`.

What is asked is given as JSON, with the name of a run as `model`. The answers are those of the commands' `--json`.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from torch import Tensor

from charlm.errors import CharlmError, SettingsError
from charlm.inside.attend import aligned, attend_all
from charlm.inside.explain import explained, reading_logits
from charlm.inside.fill import fill, filler
from charlm.inside.neurons import FEATURES, neurons
from charlm.inside.surprise import surprise
from charlm.objectives._hiding import Hiding
from charlm.progress import Progress, result
from charlm.runs import folder
from charlm.runs.opening import Opening
from charlm.runs.standing import standing
from charlm.sampling.settings import Request, TranslateSettings
from charlm.score import BITS
from charlm.serving.bodies import Json, body, refusal, unless_gone
from charlm.serving.fields import LONGEST, RefusedError, known, typed, whole_number
from charlm.serving.scorer import Scorer
from charlm.serving.scores import prompt_likelihoods
from charlm.serving.served import Served, about_run
from charlm.serving.worker import Worker
from charlm.writer import Writer
from charlm.written import collect

PAGE = Path(__file__).with_name("page.html")
LIKELIEST = 8  # tokens that are named beside one of a text
SIDE = 24  # squares of a thumbnail
PICKING = ("prompt", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "unknown")

Given = dict[str, Any]
Work = Generator[Progress, None, dict[str, Any]]


class Shown:
    """A run on the page. `can` says what it can do: write, score, fill, translate, attend, neurons."""

    def __init__(self, name: str, path: Path, worker: Worker, writer: Writer | None = None) -> None:
        """Without a writer only its learning curve is shown."""
        self.name, self.path, self.writer = name, path, writer
        self.can = list(abilities(writer)) if writer else []
        self.served = Served(name, writer, worker, about=about_run(path)) if writer and "write" in self.can else None
        self.scorer = self.served.scorer if self.served else Scorer(worker)
        self.next: tuple[Tensor, Tensor] | None = None  # the last prompt that was explained, and the logits after it

    @classmethod
    def open(cls, name: str, path: Path, opening: Opening, worker: Worker) -> Shown:
        """The run in a folder, read in the worker's thread."""
        return worker.result(lambda: cls(name, path, worker, Writer.load(path, opening)))

    @property
    def opened(self) -> Writer:
        if self.writer is None:
            raise SettingsError(f"{self.name} is being trained; to use it: charlm play {self.path}")
        return self.writer

    def to_json(self) -> dict[str, Any]:
        config = folder.info(self.path).config
        about = {"name": self.name, "can": self.can, "arch": config["arch"], "kind": config["kind"]}
        return {**about, "parameters": config["params"], "window": seen(self.writer) if self.writer else None}


def abilities(writer: Writer) -> Iterator[str]:
    """What the run does when it is asked to."""
    text = "\n" * 4
    attempts: dict[str, Callable[[], Any]] = {
        "write": writer.check_can_continue,
        "score": lambda: result(surprise(writer, text)),
        "fill": lambda: filler(writer),
        "translate": lambda: writer.translate([]),
        "attend": lambda: attend_all(writer, text),
        "neurons": lambda: neurons(writer, text),
    }
    for name, attempt in attempts.items():
        with suppress(CharlmError):
            attempt()
            yield name


def seen(writer: Writer) -> int | None:
    """How many tokens the model looks at, at most; None: no limit."""
    if isinstance(writer.objective, Hiding):
        return writer.objective.at_once(writer.model.spec)
    return writer.model.window if writer.can_continue else None


def asked(given: Given, **more: Any) -> Request:
    return Request.of(**{name: given[name] for name in PICKING if name in given}, **more)


def explains(shown: Shown, given: Given) -> Work:
    """The next token, as `charlm explain` has it. The last prompt is not read again, so that sliders move at once."""
    request, writer = asked(given), shown.opened
    top = whole_number(given, "top", 12, 1000, least=1)
    tokens = writer.prompt_ids(request)
    if shown.next is None or not shown.next[0].equal(tokens):
        shown.next = tokens, (yield from reading_logits(writer, tokens))
    return {"prompt": request.prompt, **explained(writer, request, *shown.next, top).to_json()}


def surprises(shown: Shown, given: Given) -> Work:
    """A text as `charlm score` has it; and its tokens, with what else was likely where they stand."""
    text, writer = typed(given, "text", str, "", "a text"), shown.opened
    scored = yield from surprise(writer, text)
    ids = writer.tokenizer.encode(text).tolist()
    tokens: list[dict[str, Any]]
    if scored.measure == BITS:
        known_ones = yield from prompt_likelihoods(writer, ids, LIKELIEST)
        tokens = [
            {"text": one.text, "likeliest": [[name(writer, id), math.exp(value)] for id, value in one.likeliest]}
            for one in known_ones
        ]
    else:
        decoder = writer.tokenizer.decoder()
        tokens = [{"text": decoder.feed(id), "likeliest": []} for id in ids]
    return {**scored.to_json(), "measure": scored.measure.words, "value": scored.value, "tokens": tokens}


def name(writer: Writer, id: int) -> str:
    return writer.tokenizer.tokens[id].decode("utf-8", "backslashreplace")


def attends(shown: Shown, given: Given) -> Work:
    """The weights of one head as `charlm attend` has them, and thumbnails of all."""
    text = typed(given, "text", str, "", "a text")
    layer, head = (typed(given, name, int, None, "a whole number") for name in ("layer", "head"))
    yield Progress("reading", 0, 1)
    looked = attend_all(shown.opened, text)
    return {**looked.chosen(layer, head).to_json(), "thumbnails": looked.thumbnails(SIDE).tolist()}


def traces(shown: Shown, given: Given) -> Work:
    """Cells and gates, as `charlm neurons` has them."""
    names = {"layer": int, "unit": int, "gate": str, "find": str}
    wanted = {name: typed(given, name, kind, None, f"of type {kind.__name__}") for name, kind in names.items()}
    if wanted["find"] not in (None, *FEATURES):
        raise SettingsError(f"find must be one of {', '.join(FEATURES)}, got {wanted['find']!r}", field="find")
    top = whole_number(given, "top", 5, 1000, least=1)
    text = typed(given, "text", str, "", "a text")
    yield Progress("reading", 0, 1)
    return neurons(shown.opened, text, **wanted, top=top).to_json()


def writes_beside(shown: Shown, given: Given) -> Work:
    """What a run writes with the noise that every other run gets, as `charlm sample --side-by-side` has it."""
    length = whole_number(given, "length", Request.length, LONGEST, least=1)
    request = asked(given, length=length, seed=typed(given, "seed", int, None, "a whole number"))
    request = replace(request, seed=request.chosen_seed())
    [row] = yield from collect(shown.name, shown.opened.pieces(request, shared=True), request)
    return row.to_json(request)


def fills(shown: Shown, given: Given) -> Work:
    """Gaps, as `charlm fill` has them."""
    top = whole_number(given, "top", 5, 1000, least=1)
    filled = yield from fill(shown.opened, typed(given, "text", str, "", "a text"), top)
    return filled.to_json()


def translates(shown: Shown, given: Given) -> Work:
    """A line as `charlm translate` has it, and where the model looked while it wrote the best translation."""
    text, writer = typed(given, "text", str, "", "a text"), shown.opened
    beam = whole_number(given, "beam", 1, 1000, least=1)
    if not text.strip():
        raise SettingsError("there is no line to translate: it is empty", field="text")
    [best] = yield from writer.translating([text], TranslateSettings(beam=beam, n_best=beam))
    looked = None
    with suppress(SettingsError):  # it has no attention
        looked = aligned(writer, best[0].source, best[0].ids, finished=best[0].finished).to_json()
    return {
        "source": text,
        "source_cut": best[0].cut,
        "translations": [one.to_json() for one in best],
        "attended": looked,
    }


WORKS: dict[str, tuple[Callable[[Shown, Given], Work], tuple[str, ...]]] = {
    "explain": (explains, (*PICKING, "top")),
    "surprise": (surprises, ("text",)),
    "attend": (attends, ("text", "layer", "head")),
    "neurons": (traces, ("text", "layer", "unit", "gate", "find", "top")),
    "beside": (writes_beside, (*PICKING, "length", "seed")),
    "fill": (fills, ("text", "top")),
    "translate": (translates, ("text", "beam")),
}
"""What does the work of a path, and the fields that it reads beside `model`."""


def routes(runs: Sequence[Shown]) -> list[Route]:
    """Those of the page and of what it asks for, of these runs; `charlm.serving.app.app` does the writing."""
    by_name = {shown.name: shown for shown in runs}

    def answers(work: Callable[[Shown, Given], Work], names: Sequence[str]) -> Any:
        async def answer(request: HttpRequest) -> Response:
            given = known(await body(request), ("model", *names))
            wanted = typed(given, "model", str, runs[0].name, "the name of a run")
            if wanted not in by_name:
                words = f"there is no run {wanted!r}; there are {', '.join(by_name)}"
                raise RefusedError(words, status=404, param="model", code="model_not_found")
            shown = by_name[wanted]
            try:
                done = await unless_gone(request, shown.scorer.result(work(shown, given)))
            except CharlmError as error:
                raise refusal(error, "text") from None
            return Json(done)

        return answer

    def list_runs(_: HttpRequest) -> Response:
        features = {name: words for name, (_, words) in FEATURES.items()}
        try:
            return Json({"runs": [shown.to_json() for shown in runs], "features": features})
        except CharlmError as error:
            raise refusal(error) from None

    def curves(_: HttpRequest) -> Response:
        try:
            return Json({"runs": [curve(shown) for shown in runs]})
        except CharlmError as error:
            raise refusal(error) from None

    return [
        Route("/", page),
        Route("/play/runs", list_runs),
        Route("/play/curves", curves),
        *(Route(f"/play/{path}", answers(*work), methods=["POST"]) for path, work in WORKS.items()),
    ]


def curve(shown: Shown) -> dict[str, Any]:
    """How a training stands, as `charlm watch` has it, and in which measure."""
    measure = folder.info(shown.path).measure
    return {"name": shown.name, "measure": measure.name, "words": measure.words, **standing(shown.path)}


def page(_: HttpRequest) -> Response:
    """The page: nothing runs but the script that stands in it, and it may speak to this server alone."""
    html = PAGE.read_text(encoding="utf-8")
    script, style = (digest(re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)) for tag in ("script", "style"))
    policy = f"default-src 'none'; connect-src 'self'; img-src data:; script-src {script}; style-src {style}"
    never = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    headers = {"content-security-policy": f"{policy}; {never}", "referrer-policy": "no-referrer"}
    return HTMLResponse(html, headers=headers)


def digest(element: re.Match[str] | None) -> str:
    """A script or style as a policy names it."""
    assert element
    return f"'sha256-{base64.b64encode(hashlib.sha256(element[1].encode()).digest()).decode()}'"
