"""`charlm.train`, `charlm.load` and `charlm.compare`: what a notebook or a script gets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import charlm
from charlm.api.keywords import in_keywords
from charlm.errors import CorpusError, RunError, SettingsError
from charlm.runs import folder
from charlm.views.chart import line_chart
from charlm.views.shown import Shown

Typed = Callable[..., tuple[int, str, str]]
TINY: dict[str, Any] = {"hidden_size": 16, "seq_len": 16, "batch_size": 4, "quiet": True}
LINE = "WICK:\nThe lamp is out"
DOCS = Path(__file__).parents[1] / "docs"

# (fixture, method, arguments, keywords, words of the command)
LOOKS = [
    ("trained", "sample", ("WICK:",), {"length": 30, "temperature": 0.7, "seed": 3, "top_k": 5}, "--prompt WICK:"),
    ("trained", "explain", ("WICK",), {"top": 4, "temperature": 0.5, "min_p": 0.1}, "--prompt WICK"),
    ("trained", "neurons", (LINE,), {"top": 2, "find": "newline"}, f"--text|{LINE}"),
    ("trained", "context", (), {"positions": 40}, ""),
    ("trained", "novelty", (), {"length": 200, "seed": 2}, ""),
    ("trained", "choose", ("The lamp is ", ["out", "in"]), {}, "--prompt|The lamp is |--choice|out|--choice|in"),
    ("parrot", "fill", ("The l[MASK]mp is out",), {"top": 3}, "The l[MASK]mp is out|"),
    ("masked", "attend", (LINE,), {"layer": 1, "head": 2}, f"--text|{LINE}"),
    ("masked", "attend", ("The lamp",), {"all": True}, "--text|The lamp"),
]


def words(how: dict[str, Any]) -> list[str]:
    """Keywords as options."""
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in how.items())
    return [word for flag, value in pairs for word in ([flag] if value is True else [flag, str(value)])]


@pytest.mark.parametrize(("name", "method", "given", "how", "command"), LOOKS)
def test_a_look_has_the_numbers_of_the_command_and_can_be_shown_anywhere(
    name: str,
    method: str,
    given: tuple[Any, ...],
    how: dict[str, Any],
    command: str,
    request: pytest.FixtureRequest,
    typed: Typed,
) -> None:
    path = request.getfixturevalue(name)
    options = command.split("|") if "|" in command else command.split()
    code, out, _ = typed(method, path, *[word for word in options if word], *words(how), "--json")
    assert code == 0
    look = getattr(charlm.load(path), method)(*given, **how)
    assert json.loads(json.dumps(look.to_dict())) == json.loads(out)
    assert_shown(look)


def assert_shown(look: Shown) -> None:
    assert str(look)
    assert "\x1b" not in str(look)
    assert elements(look._repr_html_())
    frame = look.to_pandas()
    assert list(frame.columns) == list(look.records()[0])
    assert len(frame) == len(look.records())


class Elements(HTMLParser):
    """Counts elements, all of which must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.open.append(tag)
        self.seen.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(html: str) -> list[str]:
    parser = Elements()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser.seen


def test_a_score_has_the_numbers_of_the_command(trained: Path, typed: Typed) -> None:
    Path("line.txt").write_text(LINE)
    run = charlm.load(trained)
    scored = run.score(LINE)
    assert scored.to_dict() == json.loads(typed("score", trained, "line.txt", "--json")[1])
    assert scored.bits_per_byte == scored.to_dict()["bits_per_byte"]
    assert list(scored.to_pandas()) == ["line", "character", "bits"]
    assert "".join(scored.to_pandas()["character"]) == LINE
    assert_shown(scored)


def test_lines_are_translated_classified_and_restored_as_by_the_commands(
    translator: Path, classifier: Path, restorer: Path, typed: Typed
) -> None:
    Path("lines").write_text("badc\nab\n")
    translations = charlm.load(translator).translate(["badc", "ab"], beam=2, n_best=2)
    lines = typed("translate", translator, "lines", "--beam", "2", "--n-best", "2", "--json")[1].splitlines()
    assert translations.to_dict()["translations"] == [json.loads(line) for line in lines]
    assert [len(best) for best in translations] == [2, 2]
    assert list(translations.to_pandas()) == ["source", "text", "log_probability", "finished"]
    Path("lines").write_text("wet oak\nan owl\n")
    classes = charlm.load(classifier).classify(["wet oak", "an owl"])
    lines = typed("classify", classifier, "lines", "--json")[1].splitlines()
    assert classes.to_dict()["texts"] == [json.loads(line) for line in lines]
    assert list(classes.to_pandas()) == ["text", "label", "share"]
    Path("lines").write_text("the quick [MASK] fox")
    restored = charlm.load(restorer).restore("the quick [MASK] fox")
    lines = typed("restore", restorer, "lines", "--json")[1].splitlines()
    assert restored.to_dict()["pieces"] == [json.loads(line) for line in lines]
    for look in (translations, classes, restored):
        assert_shown(look)


def test_a_sample_is_a_text_and_knows_its_others(trained: Path) -> None:
    run = charlm.load(trained)
    first = run.sample("WICK:", length=20, samples=3, seed=4)
    assert isinstance(first, str)
    assert first == "".join(run.stream("WICK:", length=20, samples=3, seed=4))
    assert first.all[0] == first
    assert len({*first.all}) == 3
    assert first.to_pandas()["sample"].value_counts().to_dict() == {1: 20, 2: 20, 3: 20}
    assert "".join(token["text"] for token in first.tokens) == first


def test_nothing_is_copied_beyond_what_novel_allows(parrot: Path) -> None:
    run = charlm.load(parrot)
    copied = run.novelty(run.sample(length=150, novel=12, temperature=0.5))
    assert 0 < len(copied.novelty.longest.text) <= 12


def test_the_curve_is_what_the_training_wrote(trained: Path, typed: Typed) -> None:
    run = charlm.load(trained)
    curves = run.curves()
    watched = json.loads(typed("watch", trained, "--json")[1])["curve"]
    assert [{name: row[name] for name in watched[0]} for row in curves.to_dict()["curve"]] == watched
    assert all(0 < row["train_nats"] < 6 for row in curves.records())
    assert list(curves.to_pandas()) == ["seconds", "tokens", "step", "bits_per_byte", "train_nats"]
    assert "svg" in elements(curves._repr_html_())
    assert_shown(curves)


def test_a_picture_escapes_texts_and_is_well_formed(trained: Path) -> None:
    nasty = '<script>alert("&")</script>'
    html = charlm.load(trained).sample(nasty, length=5, samples=2, unknown="skip")._repr_html_()
    assert "script" not in elements(html)
    assert "&lt;script&gt;" in html
    chart = line_chart({nasty: [[(0, 1), (1, float("nan")), (2, 3)], [(1, 1)]]}, nasty, "y")
    assert {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(chart).iter()} == {
        "svg", "path", "text", "g", "polyline", "circle"
    }  # fmt: skip
    assert "nan" not in chart
    assert line_chart({"empty": [[]]}, "x", "y") == ""


@pytest.mark.parametrize(
    ("message", "in_python"),
    [
        ("--hidden-size must be at least 1, got 0", "hidden_size must be at least 1, got 0"),
        ("--n-best 5 is more than --beam 3 can find", "n_best=5 is more than beam=3 can find"),
        ("for a CPU; add --device cpu or leave it out", "for a CPU; add device='cpu' or leave it out"),
        ("use --tokenizer byte, bpe or unigram", "use tokenizer byte, bpe or unigram"),
        ("trained with --objective masked; use charlm fill", "trained with objective='masked'; use charlm fill"),
        ("name it with --teacher RUN", "name it with teacher=RUN"),
        ("as in --eval-every 30s, or --lr 1e-3.", "as in eval_every=30s, or lr=1e-3."),
        ("see charlm train --arch lstm --help; not --arch x", "see charlm train --arch lstm --help; not arch x"),
        ("try charlm train FILE --tokenizer byte, or --clip 1", "try charlm train FILE --tokenizer byte, or clip=1"),
        ("--share-layers makes all blocks alike", "share_layers makes all blocks alike"),
    ],
)
def test_messages_name_keywords_and_keep_whole_command_lines(message: str, in_python: str) -> None:
    assert in_keywords(message) == in_python
    assert in_keywords(in_python) == in_python


def test_errors_name_keywords(trained: Path, verses: Path) -> None:
    run = charlm.load(trained)
    for wrong, call in {
        "hidden_size must be at least 1, got 0": lambda: charlm.train(verses, hidden_size=0),
        "did you mean hidden_size?": lambda: charlm.train(verses, hiden_size=3),
        "minutes and steps are different budgets": lambda: charlm.train(verses, minutes=1, steps=2),
        "must be a number, got 'x'": lambda: charlm.train(verses, lr="x"),
        "resume takes text and settings from the run": lambda: charlm.train(verses, resume="last"),
        "device must be one of": lambda: charlm.load(trained, device="tpu"),
        "temperature must be a number from 0 to 1000": lambda: run.sample(temperature=-1),
        "give a length, or use stream": lambda: run.sample(length=0),
        "there are length, min_p, novel": lambda: run.sample(lenght=3),
        "layer must be": lambda: run.neurons(LINE, layer=9),
        "unit names a unit and find looks for one": lambda: run.neurons(LINE, unit=1, find="quote"),
        "without arch and its training": lambda: charlm.compare(trained, arch="lstm"),
    }.items():
        with pytest.raises(SettingsError) as caught:
            call()
        assert wrong in str(caught.value)
        assert "--" not in str(caught.value).partition("charlm train")[0]
    with pytest.raises(SettingsError) as caught:
        charlm.train(verses, hidden_size=0)
    assert caught.value.field == "hidden_size"
    with pytest.raises(CorpusError, match=r"missing\.txt"):
        charlm.train("missing.txt")


def test_training_makes_the_run_that_the_command_makes(verses: Path, typed: Typed) -> None:
    run = charlm.train(verses, steps=12, eval_every=6, out="here", **TINY)
    shell = ["--steps", "12", "--eval-every", "6", "--hidden-size", "16", "--seq-len", "16", "--batch-size", "4"]
    assert typed("train", verses, *shell, "--out", "there", "--quiet") == (0, "", "")
    for name, tensor in charlm.load("there").model.state_dict().items():
        assert torch.equal(tensor, run.model.state_dict()[name])
    assert run.path == Path("here")
    assert [point.step for point in run.curves().value] == [6, 12]


def test_the_same_out_is_refused_and_a_resume_goes_on(verses: Path) -> None:
    half = charlm.train(verses, steps=12, stop_after=6, out="r", **TINY)
    assert folder.info(half.path).training["finished"] is False
    with pytest.raises(RunError, match="already holds a run or another model; give another out"):
        charlm.train(verses, steps=12, out="r", **TINY)
    whole = charlm.train(resume=half, quiet=True)
    straight = charlm.train(verses, steps=12, out="s", **TINY)
    assert torch.equal(*(run.model.state_dict()["head.weight"] for run in (whole, straight)))
    assert charlm.train(resume="r", steps=15, quiet=True).curves().value[-1].step == 15


def test_a_training_says_in_python_what_to_do_next(verses: Path, capfd: pytest.CaptureFixture[str]) -> None:
    charlm.train(verses, steps=12, stop_after=6, out="r", **{**TINY, "quiet": False})
    assert "all saved; go on with: charlm.train(resume='r')" in capfd.readouterr().out
    charlm.train(resume="r")
    assert "next: run.sample(…)" in capfd.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupt_saves_and_returns_the_run(verses: Path) -> None:
    def interrupt() -> None:
        while not folder.is_run(Path("r")):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    run = charlm.train(verses, minutes=3, out="r", **TINY)
    assert folder.info(run.path).training["finished"] is False
    assert len(run.sample(length=5)) == 5
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_are_compared_as_by_the_command(trained: Path, twin: Path, typed: Typed) -> None:
    compared = charlm.compare(charlm.load(trained), twin, quiet=True)
    by_command = json.loads(typed("compare", trained, twin, "--json")[1])
    said = json.loads(json.dumps(compared.to_dict()))
    assert said["verdict"] == by_command["verdict"]
    assert [row["bits_per_byte"] for row in said["rows"]] == [row["bits_per_byte"] for row in by_command["rows"]]
    frame = compared.to_pandas()
    assert frame["bits_per_byte"].tolist()[:2] == [row.scores[0] for row in compared.rows]
    assert said["verdict"] in " ".join(str(compared).split())
    assert "svg" in elements(compared._repr_html_())


def test_to_pandas_without_pandas_says_what_to_install(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        charlm.load(trained).explain("WICK").to_pandas()


def test_importing_charlm_loads_neither_torch_nor_ipython_nor_pandas(trained: Path) -> None:
    code = "import sys, charlm; print({'torch', 'numpy', 'rich'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
    looks = f"charlm.load({str(trained)!r}).score('WICK')._repr_html_()"
    code = f"import sys, charlm; {looks}; print({{'IPython', 'pandas'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.slow
def test_the_notebook_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(DOCS / "python.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        cell.source = cell.source.replace("minutes=1", "steps=60, hidden_size=32")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(shown) >= 6
    training = shown[0]
    assert "60 steps in" in training
    assert "svg" in elements(training)
    assert not [output for output in outputs if output.output_type == "stream"]  # no bar of a terminal


def test_every_name_of_a_chart_stands_in_its_picture_and_above_its_frame() -> None:
    drawn = line_chart({f"network number {n}": [[(0.0, n), (1.0, n + 1.0)]] for n in range(9)}, "seconds", "bits")
    view = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn)
    down = re.search(r"translate\(0 (\d+)\)", drawn)
    assert view
    assert down
    places = [
        (int(x), int(y) + int(down[1])) for x, y in re.findall(r'<text x="(\d+)" y="(-?\d+)"[^>]*>network', drawn)
    ]
    assert len(set(places)) == 9
    assert all(x + 7 * len("network number 0") < int(view[1]) and 0 < y < 24 + int(down[1]) for x, y in places)


def test_load_refuses_a_keyword_that_it_does_not_know(trained: Path) -> None:
    with pytest.raises(SettingsError, match="weigths is no setting of an opened run"):
        charlm.load(trained, weigths="last")
    assert charlm.load(charlm.load(trained)).path == trained
