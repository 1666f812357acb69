"""The page of `charlm play` in a real browser. Its numbers are those of the command line's `--json`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import until
from small_runs import train_on

from charlm.runs.opening import Opening
from charlm.serving.app import app
from charlm.serving.play import Shown, routes
from charlm.serving.server import answering
from charlm.serving.worker import Worker

Typed = Callable[..., tuple[int, str, str]]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
PROMPT = "PEG:\nThe "
SCRIPT = "<script>alert(1)</script>\n<img src=x onerror=alert(2)>\n"


@pytest.fixture(scope="module")
def runs(
    trained: Path, windowed: Path, masked: Path, translator: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Runs by their names on the page; `<b>wild` writes what a browser would run."""

    wild = tmp_path_factory.mktemp("wild")
    train_on(SCRIPT * 60, wild, arch="rnn", steps=40)
    return {"lstm": trained, "transformer": windowed, "masked": masked, "pairs": translator, "<b>wild": wild / "run"}


@pytest.fixture(scope="module")
def address(runs: dict[str, Path]) -> Iterator[str]:
    with Worker() as worker:
        shown = [Shown.open(name, path, Opening(), worker) for name, path in runs.items()]
        with answering(app([one.served for one in shown if one.served], routes=routes(shown))) as port:
            yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page, ready; whatever the browser complains about and whatever it asks of others is an error."""
    opened = chromium.new_page(viewport=DESK)
    opened.set_default_timeout(15_000)
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if is_complaint(said) else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    opened.on(
        "request", lambda asked: None if asked.url.startswith((address, "data:")) else complaints.append(asked.url)
    )
    opened.goto(address)
    opened.wait_for_selector("body[data-ready=yes]")
    yield opened
    opened.close()
    assert complaints == []


def is_complaint(said: Any) -> bool:
    """Whether the browser logs something bad; a request that is refused is told on the page."""
    return said.type in ("error", "warning") and "status of 400" not in said.text


def told(typed: Typed, *words: str | Path) -> Any:
    """The JSON that a command prints."""
    code, out, error = typed(*words, "--json", "--device", "cpu")
    assert code == 0, error
    return json.loads(out)


def numbers(page: Any, selector: str, name: str) -> list[float]:
    """An attribute of every element, as numbers."""
    return page.eval_on_selector_all(selector, f"all => all.map(one => Number(one.dataset.{name}))")


def slide(page: Any, **settings: float) -> None:
    for name, value in settings.items():
        page.locator(f"#{name}").fill(str(value))


def write(page: Any, prompt: str = PROMPT, length: int = 60, seed: int = 3) -> str:
    """What the page has written when it is finished."""
    page.fill("#prompt", prompt)
    page.fill("#length", str(length))
    page.fill("#seed", str(seed))
    page.click("#write")
    page.wait_for_selector("#text[aria-busy=false] [data-bits]")
    return page.locator("#text").text_content()


def test_sliders_move_the_bars_to_the_numbers_of_explain(page: Any, runs: dict[str, Path], typed: Typed) -> None:
    page.fill("#prompt", PROMPT)
    slide(page, temperature=1.3, top_k=7, top_p=0.9, min_p=0.05)
    until(lambda: page.evaluate("document.querySelector('#stages').textContent.includes('min-p 0.05')"))
    words = ("--top", "10", "--temperature", "1.3", "--top-k", "7", "--top-p", "0.9", "--min-p", "0.05")
    stages = told(typed, "explain", runs["lstm"], "--prompt", PROMPT, *words)["stages"]
    for name, stage in (("was", stages[0]), ("is", stages[-1])):
        assert numbers(page, "#bars tr", name) == [*stage["probabilities"], stage["rest"]]
    assert page.locator("#stages").inner_text() == " → ".join(f"{s['name']} ({s['kept']})" for s in stages)


def test_it_writes_what_sample_does_and_colours_it_as_score_does(
    page: Any, runs: dict[str, Path], typed: Typed, tmp_path: Path
) -> None:
    text = write(page)
    sampled = typed("sample", runs["lstm"], "--prompt", PROMPT, "--length", "60", "--seed", "3")[1]
    assert text == sampled.removesuffix("\n")
    (tmp_path / "text").write_text(text)
    scored = told(typed, "score", runs["lstm"], tmp_path / "text")
    assert numbers(page, "#text span", "bits") == scored["bits"]  # a token is a character
    assert numbers(page, "#summary", "value") == [scored["bits_per_byte"]]
    page.locator("#text span").nth(20).click()
    assert "what was likely there" in page.locator("#detail").inner_text()
    assert page.locator("#detail tbody tr").count() == 8


def test_a_text_can_be_stopped_and_is_coloured_as_far_as_it_came(page: Any) -> None:
    page.fill("#prompt", PROMPT)
    page.fill("#length", "5000")
    page.click("#write")
    until(lambda: page.evaluate("document.querySelector('#text').textContent.length > 20"))
    page.click("#stop")
    page.wait_for_selector("#text[aria-busy=false] [data-bits]")
    assert len(PROMPT) < len(page.locator("#text").text_content()) < 5000
    assert page.locator("#writing-error").inner_text() == ""


def test_attention_is_that_of_attend(page: Any, runs: dict[str, Path], typed: Typed) -> None:
    page.select_option("#run", "transformer")
    page.fill("#prompt", "PEG: The tide")
    page.click("#read")
    page.wait_for_selector("#maps [data-weight]")
    heads = told(typed, "attend", runs["transformer"], "--text", "PEG: The tide", "--all")["weights"]
    assert page.locator("#thumbs button").count() == len(heads)  # each layer has one
    page.get_by_label("layer 1, head 1").click()
    until(lambda: page.evaluate("document.querySelector('#looking-note').textContent.startsWith('Layer 1, head 1.')"))
    words = ("--text", "PEG: The tide", "--layer", "1", "--head", "1")
    weights = told(typed, "attend", runs["transformer"], *words)["weights"]
    page.locator("#maps-rows span").nth(9).hover()
    assert numbers(page, "#maps-rows span", "weight") == weights[9] + [0.0] * 3


def test_cells_are_those_of_neurons(page: Any, runs: dict[str, Path], typed: Typed) -> None:
    page.fill("#prompt", "PEG:\nThen The Wind")
    page.click("#read")
    page.select_option("#feature", "capital")
    page.wait_for_selector("#units button:has-text(', r ')")
    words = ("--text", "PEG:\nThen The Wind", "--find", "capital", "--top", "6")
    units = told(typed, "neurons", runs["lstm"], *words)["units"]
    for number in (0, 3):
        page.locator("#units button").nth(number).click()
        assert numbers(page, "#trace span", "value") == units[number]["values"]


def test_runs_write_side_by_side_with_the_same_noise(page: Any, runs: dict[str, Path], typed: Typed) -> None:
    page.locator("#others").get_by_label("transformer").check()
    page.fill("#prompt", PROMPT)
    page.fill("#length", "40")
    page.fill("#seed", "5")
    page.click("#write")
    until(lambda: page.evaluate("document.querySelectorAll('#columns .same').length == 2"))
    words = ("--side-by-side", "--prompt", PROMPT, "--length", "40", "--seed", "5")
    both = told(typed, "sample", runs["lstm"], runs["transformer"], *words)
    assert page.locator("#columns pre").all_text_contents() == [PROMPT + one["text"] for one in both]


def test_gaps_are_filled_as_fill_does(page: Any, runs: dict[str, Path], typed: Typed) -> None:
    page.select_option("#run", "masked")
    assert not page.locator("#write").is_visible()
    text = "PEG: The t[MASK]de is [MASK]{2}t"
    page.fill("#gaps", text)
    page.locator("#fill-form button").click()
    page.wait_for_selector("#filled table")
    filled = told(typed, "fill", runs["masked"], text)
    assert page.locator("#filled pre").text_content() == filled["text"]
    shares = [f"{100 * guess['share']:.1f}%" for gap in filled["gaps"] for guess in gap["guesses"]]
    assert page.locator("#filled td:not(.bar)").all_inner_texts() == shares


def test_a_line_is_translated_as_translate_does(
    page: Any, runs: dict[str, Path], typed: Typed, heard: Callable[[str], None]
) -> None:
    page.select_option("#run", "pairs")
    assert not page.locator("#writing").is_visible()
    page.fill("#source", "abcd")
    page.locator("#translate-form button").click()
    page.wait_for_selector("#alignment-columns [data-weight]")
    heard("abcd\n")
    best = told(typed, "translate", runs["pairs"], "--beam", "4", "--n-best", "4")["translations"]
    assert page.locator("#translated pre").text_content() == best[0]["text"]
    assert page.locator("#translated tbody th").all_text_contents() == [one["text"] for one in best[1:]]


def test_curves_are_those_of_watch(page: Any, runs: dict[str, Path], typed: Typed) -> None:
    code, out, error = typed("watch", runs["lstm"], "--json")
    assert code == 0, error
    curve = json.loads(out)["curve"]
    page.locator("#charts summary").first.click()
    rows = page.locator("#charts table").first.locator("tbody tr").filter(has_text="lstm").all_inner_texts()
    assert [row.split()[1] for row in rows] == [f"{point['bits_per_byte']:.4f}" for point in curve]
    page.select_option("#along", "step")
    assert "optimizer steps" in page.locator("#charts svg").first.text_content()


def test_what_a_run_writes_cannot_become_part_of_the_page(page: Any) -> None:
    page.select_option("#run", "<b>wild")
    assert write(page, SCRIPT, 100).startswith(SCRIPT)
    page.locator("#text span").nth(5).click()
    assert page.locator("#detail tbody tr").count() > 0
    assert page.locator("img").count() == 0
    assert "<b>wild" in page.locator("#states").inner_text()


def test_what_cannot_be_done_is_said(page: Any) -> None:
    page.fill("#prompt", "PEG: 漢")
    until(lambda: page.evaluate("document.querySelector('#writing-error').textContent.includes('漢')"))
    page.fill("#prompt", "PEG: ")
    until(lambda: page.evaluate("document.querySelector('#writing-error').textContent === ''"))
    requests = page.request
    for path, body, status in [
        ("explain", {"model": "none"}, 404),
        ("explain", {"top_k": "many"}, 400),
        ("explain", {"typo": 1}, 400),
        ("attend", {"text": "PEG"}, 400),  # an LSTM
        ("neurons", {"text": "PEG", "find": "love"}, 400),
        ("beside", {"length": 10**9}, 400),
        ("fill", {"model": "masked", "text": "no gap"}, 400),
        ("translate", {"model": "pairs", "text": " "}, 400),
    ]:
        answer = requests.post(f"{page.url}play/{path}", data=body)
        assert (path, answer.status) == (path, status)
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")])
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(page: Any, size: dict[str, int], scheme: str) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.select_option("#run", "transformer")
    write(page)
    page.wait_for_selector("#thumbs button")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper, ink = page.evaluate(
        "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    light, dark = (int(re.search(r"\d+", colour)[0]) for colour in (paper, ink))
    assert (light > 200 > 100 > dark) if scheme == "light" else (dark > 200 > 100 > light)
    assert page.locator("#charts svg").first.bounding_box()["width"] <= size["width"]


def test_keys_walk_through_the_text_and_everything_has_a_name(page: Any) -> None:
    write(page)
    page.locator("#text").focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail tr")
    chosen = page.locator("#text [aria-selected=true]")
    assert (chosen.count(), chosen.get_attribute("id")) == (1, "text-3")
    assert page.locator("#text").get_attribute("aria-activedescendant") == "text-3"
    names = (
        "one => one.labels?.length || one.ariaLabel || one.getAttribute('aria-labelledby') || one.textContent.trim()"
    )
    unnamed = f"all => all.filter(one => !({names})(one)).map(one => one.outerHTML)"
    assert page.eval_on_selector_all("input, select, textarea, button, [role=listbox], section", unnamed) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_a_training_is_watched_while_it_runs(chromium: Any, verses: Path, tmp_path: Path) -> None:
    """On a page that `charlm train --play` opens, from the command line."""
    browser, where = tmp_path / "browser", tmp_path / "where"
    browser.write_text(f"#!/bin/sh\necho $1 > {where}\n")
    browser.chmod(0o755)
    words = ("train", verses, "--arch", "rnn", "--hidden-size", "16", "--seq-len", "16", "--batch-size", "4")
    budget = ("--steps", "1000000", "--eval-every", "100", "--device", "cpu", "--quiet", "--play")
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    with subprocess.Popen([sys.executable, "-m", "charlm", *words, *budget], env=environment) as process:
        try:
            until(lambda: where.exists() and where.read_text().strip() != "")
            opened = chromium.new_page()
            opened.goto(where.read_text().strip())
            opened.wait_for_selector("#charts circle", timeout=20_000)
            before = opened.locator("#charts circle").count()
            until(lambda: opened.evaluate(f"document.querySelectorAll('#charts circle').length > {before}"))
            assert "trains, " in opened.locator("#states").inner_text()
            assert not opened.locator("#writing").is_visible()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        until(lambda: opened.evaluate("document.querySelector('#states').textContent.includes('the server has ended')"))
        opened.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_the_command_says_where_the_page_is_and_ends_with_a_signal(chromium: Any, translator: Path) -> None:
    words = ("play", translator, "--no-browser", "--device", "cpu")
    with subprocess.Popen([sys.executable, "-m", "charlm", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127.0.0.1:\d+/", process.stdout.readline())
        assert found
        opened = chromium.new_page()
        opened.goto(found[0])
        opened.wait_for_selector("#translating:visible")
        opened.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
