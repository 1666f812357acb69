"""A text is asked for in the same words by the command line, by Python and by JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import charlm
from charlm.config import fields_of
from charlm.errors import SettingsError
from charlm.sampling.settings import Amount, BeamSettings, Prompt, Request, SampleSettings, TranslateSettings

Typed = Callable[..., tuple[int, str, str]]


def test_a_request_survives_json() -> None:
    request = Request("1,0.5", top_k=3, prompt="a", length=7, stop=("x", "y"), samples=2, seed=5, unknown="skip")
    assert Request.of(**json.loads(json.dumps(request.to_dict()))) == request
    assert Request.of() == Request()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"temperature": 0.7}, Request("0.7")),
        ({"temperature": 1}, Request("1")),
        ({"temperature": [1.0, 0.5]}, Request("1.0,0.5")),
        ({"temperature": (1, 0.5)}, Request("1,0.5")),
        ({"stop": "x"}, Request(stop=("x",))),
        ({"stop": ["xy", "z"]}, Request(stop=("xy", "z"))),
        ({"length": "7", "top_p": "0.5"}, Request(length=7, top_p=0.5)),  # of a form
    ],
)
def test_numbers_lists_and_texts_are_understood(said: dict[str, object], meant: Request) -> None:
    assert Request.of(**said) == meant


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"prompt": 5}, "--prompt must be a text, got 5"),
        ({"length": -1}, "--length must be at least 0, got -1"),
        ({"samples": 0}, "--samples must be at least 1, got 0"),
        ({"stop": 5}, "--stop must be a list of texts, got 5"),
        ({"stop": ["a", 5]}, "--stop must be a list of texts, got ('a', 5)"),
        ({"novel": -1}, "--novel must be at least 0, got -1"),
        ({"seed": 2**63}, "--seed must be at most 9223372036854775807, got 9223372036854775808"),
        ({"unknown": "guess"}, "--unknown must be one of error, skip, nearest, got 'guess'"),
        ({"temperature": "hot"}, "--temperature must be a number from 0 to 1000"),
        ({"temperature": True}, "--temperature must be a number from 0 to 1000"),
        ({"temperature": -1}, "--temperature must be a number from 0 to 1000"),
        ({"top_p": 2}, "--top-p must be at most 1, got 2"),
        ({"colour": "red"}, "colour is no setting of a request; there are length, min_p, novel, prompt,"),
    ],
)
def test_what_no_request_can_say_is_refused_with_its_field(said: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Request.of(**said)
    assert message in str(refused.value)
    assert [refused.value.field] == list(said)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"beam": 2, "temperature": "1"}, "beam"),
        ({"seed": 0}, "seed"),
        ({"top_k": 2}, "top_k"),
        ({"repetition_penalty": 1.5}, "repetition_penalty"),
        ({"n_best": 2}, "n_best"),
        ({"length_penalty": 1.0}, "length_penalty"),
    ],
)
def test_what_contradicts_itself_about_a_line_is_refused_with_its_field(said: dict[str, object], field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        TranslateSettings(**said)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_every_setting_of_a_request_is_an_option_of_sample_and_of_a_line_one_of_translate(typed: Typed) -> None:
    for command, settings, parts in (
        ("sample", Request, (Prompt, Amount, SampleSettings)),
        ("translate", TranslateSettings, (BeamSettings, SampleSettings)),
    ):
        page = typed(command, "--help")[1]
        for field in fields_of(settings):
            assert page.count(f"│ {field.flag} ") == 1
        assert {f.name for part in parts for f in fields_of(part)} <= {f.name for f in fields_of(settings)}


def test_python_and_the_command_line_write_the_same(typed: Typed, trained: Path) -> None:
    lm, how = charlm.load(trained), {"seed": 4, "temperature": [1.0, 0.5], "min_p": 0.01}
    words = ["--prompt", "PEG:", "--length", "80", "--seed", "4", "--temperature", "1.0,0.5", "--min-p", "0.01"]
    plain, cut = (lm.sample("PEG:", length=80, stop=stop, **how) for stop in ([], ["e", "a"]))
    assert typed("sample", trained, *words)[1] == f"PEG:{plain}\n"
    assert typed("sample", trained, *words, "--stop", "e", "--stop", "a")[1] == f"PEG:{cut}\n"
    assert cut == plain[: min(plain.index("e"), plain.index("a"))]
    assert lm.sample("PEG:", length=80, stop="e", **how) == plain.partition("e")[0]


def test_a_stream_ends_with_its_length_or_a_stop_and_else_never(trained: Path) -> None:
    lm = charlm.load(trained)
    endless = list(islice(lm.stream("PEG:", seed=2), 700))
    assert len(endless) == 700
    assert list(lm.stream("PEG:", seed=2, length=7)) == endless[:7]
    text = "".join(endless)
    assert "".join(lm.stream("PEG:", seed=2, stop=text[300:310])) == text[:300]


def test_without_a_seed_each_request_is_another_and_a_script_is_always_the_same(trained: Path) -> None:
    lm, request = charlm.load(trained), Request("1", length=60)
    texts = {"".join(piece.texts[0] for piece in lm.pieces(request)) for _ in range(2)}
    assert len(texts) == 2
    assert lm.sample(length=60) == lm.sample(length=60)


def test_explain_takes_the_same_prompt(typed: Typed, trained: Path) -> None:
    assert "--unknown skip" in typed("explain", trained, "--prompt", "PEG ☃")[2]
    skipped, without = (
        json.loads(typed("explain", trained, "--prompt", prompt, "--unknown", "skip", "--json")[1])
        for prompt in ("PEG ☃", "PEG ")
    )
    assert {**skipped, "prompt": ""} == {**without, "prompt": ""}
