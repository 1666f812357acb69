"""How a run is opened is said in the same way everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer

import charlm
from charlm.cli.app import build
from charlm.errors import SettingsError
from charlm.runs.opening import Opening

Typed = Callable[..., tuple[int, str, str]]

ALL, LOOKING, EXACT = {"--weights", "--device", "--quantize"}, {"--weights", "--device"}, {"--weights"}
COMMANDS = {
    **dict.fromkeys(["sample", "translate", "eval", "score", "explain", "novelty"], ALL),
    **dict.fromkeys(["attend", "neurons", "context"], LOOKING),
    **dict.fromkeys(["compress", "decompress"], EXACT),
}


def test_every_command_that_opens_a_run_takes_what_means_something_to_it() -> None:
    commands = typer.main.get_command(build([], every=True)).commands  # type: ignore[attr-defined]
    for name, expected in COMMANDS.items():
        taken = {option for param in commands[name].params for option in param.opts}
        assert taken & ALL == expected, name


@pytest.fixture
def grown(trained: Path, twin: Path) -> Path:
    """A run whose last weights are not its best ones: they are its twin's."""
    shutil.copytree(trained, "runs/grown")
    shutil.copy(twin / "last.safetensors", "runs/grown/last.safetensors")
    return Path("runs/grown")


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "RUN", "--length", "30", "--seed", "1"],
        ["explain", "RUN", "--prompt", "WICK"],
        ["score", "RUN", "V"],
        ["neurons", "RUN", "--text", "WICK:"],
        ["context", "RUN", "--positions", "5", "--text", "V"],
        ["eval", "RUN", "--text", "V"],
    ],
)
def test_a_command_works_with_the_weights_that_were_named(
    typed: Typed, trained: Path, twin: Path, grown: Path, verses: Path, words: list[str]
) -> None:
    def said(run: Path, *more: str) -> object:
        code, out, err = typed(*({"RUN": run, "V": verses}.get(word, word) for word in words), *more, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    best, last = said(grown), said(grown, "--weights", "last")
    assert best == said(trained)
    assert last == said(twin, "--weights", "last") != best


def test_what_the_last_weights_compressed_they_decompress(typed: Typed, grown: Path, verses: Path) -> None:
    code, out, _ = typed("compress", grown, verses, "--out", "small.charlm", "--weights", "last")
    assert code == 0
    assert out.endswith(f"charlm decompress small.charlm {grown} --weights last\n")
    assert "the weights of this one are" in typed("decompress", "small.charlm", grown)[2]
    assert typed("decompress", "small.charlm", grown, "--weights", "last")[0] == 0
    assert Path("small").read_bytes() == verses.read_bytes()


def test_python_opens_a_run_as_the_command_line_does(trained: Path, grown: Path) -> None:
    best, last = charlm.load(grown).model.state_dict(), charlm.load(grown, weights="last").model.state_dict()
    assert all(torch.equal(best[name], value) for name, value in charlm.load(trained).model.state_dict().items())
    assert not all(torch.equal(best[name], last[name]) for name in best)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "newest"}, "--weights must be one of best, last, got 'newest'"),
        ({"device": "gpu"}, "--device must be one of auto, cpu, cuda, mps, got 'gpu'"),
        ({"quantize": "int4"}, "--quantize must be one of int8, got 'int4'"),
        ({"quantize": True}, "--quantize must be one of int8, got True"),
    ],
)
def test_other_ways_to_open_a_run_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        Opening(**wrong)  # type: ignore[arg-type]
    assert [refused.value.field] == list(wrong)
