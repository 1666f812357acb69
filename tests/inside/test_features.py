"""`charlm features` writes what a layer makes of each line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from charlm import archs
from charlm.errors import CharlmError
from charlm.inside.features import features
from charlm.model import Network
from charlm.writer import Writer

Build = Callable[..., Writer]
Typed = Callable[..., tuple[int, str, str]]

LINES = ["abc", "", "(d e)", "a", "AB AB"]
SHOWN = [name for name in archs.names() if archs.load(name).hidden_states is not Network.hidden_states]


def states(writer: Writer, line: str) -> dict[str, np.ndarray]:
    """Each layer's vectors for a line alone, (T, D), of its own tokens or else of the newline before it."""
    ids = torch.from_numpy(writer.tokenizer.encode("\n" + line))[None]
    with torch.no_grad():
        layers = writer.model.hidden_states(ids)
    return {name: x[0, 1 if line else 0 :].double().numpy() for name, x in layers.items()}


@pytest.mark.parametrize("arch", SHOWN)
def test_a_lines_vector_is_that_of_the_line_alone_pooled(build: Build, arch: str) -> None:
    writer = build(arch)
    layers = list(states(writer, "a"))
    number = {name: str(n + ("embedding" not in layers)) for n, name in enumerate(layers)}
    for layer in ("last", "mix", *number.values()):
        for pool in ("mean", "last", "none"):
            for line, said in zip(LINES, features(writer, LINES, layer=layer, pool=pool), strict=True):
                shown = states(writer, line)
                of_layer = {"last": list(shown.values())[-1], "mix": np.mean(list(shown.values()), 0)}
                expected = of_layer.get(layer, next((x for name, x in shown.items() if number[name] == layer), None))
                assert expected is not None
                if pool == "none":
                    expected = expected if line else expected[:0]
                else:
                    expected = expected.mean(0) if pool == "mean" else expected[-1]
                assert said.text == line
                np.testing.assert_allclose(said.vectors, expected, atol=1e-4)


@pytest.mark.parametrize("arch", ["transformer", "lstm", "seq2seq"])
def test_what_is_longer_than_the_window_is_read_in_pieces(build: Build, arch: str) -> None:
    writer, line = build(arch), "abcde" * 9
    (said,) = features(writer, [line], layer="mix", pool="none")
    assert said.vectors.shape[0] == len(line)
    room = 45 if arch == "lstm" else {"transformer": 15, "seq2seq": 7}[arch]
    assert said.pieces == -(-len(line) // room)
    (last,) = features(writer, [line[-(len(line) % room or room) :]], layer="mix", pool="last")
    np.testing.assert_allclose(said.vectors[-1], last.vectors, atol=1e-4)


def test_many_lines_keep_their_order_in_bounded_blocks(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = build("lstm")
    lines = ["abcde"[: n % 6] for n in range(200)]
    whole = np.stack([line.vectors for line in features(writer, lines)])
    monkeypatch.setattr("charlm.inside.features.BLOCK", 40)
    monkeypatch.setattr("charlm.inside.features.AT_ONCE", 12)
    np.testing.assert_allclose(np.stack([line.vectors for line in features(writer, lines)]), whole, atol=1e-5)


def test_both_kinds_of_file_are_read_by_their_own_libraries(trained: Path, tmp_path: Path, typed: Typed) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("The lamp\n\nis out, the\ntide", encoding="utf-8")
    expected = [line.vectors for line in features(Writer.load(trained), text.read_text().split("\n"))]
    for name in ("mean.npy", "mean.safetensors"):
        code, said, _ = typed("features", trained, text, "--out", name)
        assert (code, said) == (0, f"{name}: 4 x 48, a row per line, 768 bytes\n")
    np.testing.assert_array_equal(np.load("mean.npy", allow_pickle=False), expected)
    with safe_open("mean.safetensors", "pt") as file:
        assert list(file.keys()) == ["vectors"]
        np.testing.assert_array_equal(file.get_tensor("vectors"), expected)
        assert file.metadata() == {"layer": "last", "pool": "mean"}


def test_a_row_per_token_comes_with_the_borders_of_the_lines(trained: Path, tmp_path: Path, typed: Typed) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("The lamp\n\nis out\n", encoding="utf-8")
    code, said, _ = typed("features", trained, text, "--pool", "none", "--layer", "1", "--out", "all.safetensors")
    assert (code, said.split(",")[0]) == (0, "all.safetensors: 14 x 48")
    with safe_open("all.safetensors", "pt") as file:
        assert file.get_tensor("lines").tolist() == [0, 8, 8, 14]
        vectors = file.get_tensor("vectors").numpy()
    whole = [
        line.vectors for line in features(Writer.load(trained), ["The lamp", "", "is out"], layer="1", pool="none")
    ]
    np.testing.assert_array_equal(vectors, np.concatenate(whole))


def test_it_reads_a_pipe_and_writes_one(trained: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"The lamp\nis out\n")))
    code, shown, _ = typed("features", trained, "-", "--json", "--pool", "last")
    assert code == 0
    said = [json.loads(line) for line in shown.splitlines()]
    assert [line["text"] for line in said] == ["The lamp", "is out"]
    expected = [line.vectors for line in features(Writer.load(trained), ["The lamp", "is out"], pool="last")]
    np.testing.assert_allclose([line["vector"] for line in said], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "give --out FILE, which may end in .npy or .safetensors, or --json"),
        (["--json", "--out", "a.npy"], "give --out FILE"),
        (["--out", "a.npy", "--encoding", "latin-0"], "--encoding"),
        (["--out", "a.csv"], "a.csv names no kind of file; it may end in .npy or .safetensors"),
        (["--out", "a.npy", "--layer", "3"], "--layer must be last, mix or a number from 1 to 1 in this run, got '3'"),
        (["--out", "nowhere/a.npy"], "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(
    words: list[str], why: str, trained: Path, verses: Path, typed: Typed
) -> None:
    code, _, said = typed("features", trained, verses, *words)
    assert code == 2
    assert why in said


def test_a_character_that_the_run_lacks_is_named_with_its_line_and_the_old_file_stays(
    trained: Path, tmp_path: Path, typed: Typed
) -> None:
    (tmp_path / "odd.txt").write_text("The lamp\nis ☂ out\n", encoding="utf-8")
    Path("old.npy").write_bytes(b"old")
    code, _, why = typed("features", trained, "odd.txt", "--out", "old.npy")
    assert code == 2
    assert "line 2: " in why
    assert "--unknown skip" in why
    assert Path("old.npy").read_bytes() == b"old"
    assert typed("features", trained, "odd.txt", "--out", "old.npy", "--unknown", "skip")[0] == 0
    assert np.load("old.npy").shape == (2, 48)


def test_a_run_on_pairs_is_told_what_fits(translator: Path, verses: Path, typed: Typed) -> None:
    code, _, why = typed("features", translator, verses, "--json")
    assert code == 2
    assert "charlm train FILE --arch lstm" in why


def test_a_network_that_shows_no_layers_gives_its_own_vectors(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = build("lstm")
    monkeypatch.setattr(type(writer.model), "hidden_states", Network.hidden_states)
    assert len(list(features(writer, LINES))) == len(LINES)
    with pytest.raises(CharlmError, match="does not show what each of its layers says"):
        list(features(writer, LINES, layer="mix"))
