"""ONNX: the same numbers and the same text, by ONNX Runtime alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from small_runs import train_on_labels, train_on_verses
from test_archs import build, tokens
from texts import backwards

import charlm
from charlm.errors import SettingsError
from charlm.exporting import onnx_folder
from charlm.exporting.graphs import graphs

Typed = Callable[..., tuple[int, str, str]]
SMALLEST: dict[str, Any] = {"gru": {}, "transformer": {"layers": 1}}  # one of each way to make a graph that reads
GREEDY = """
import json, sys
from itertools import islice
sys.modules["torch"] = None
sys.path.insert(0, "graphs")
from write import encode, write
print(json.dumps([[*islice(write(encode(prompt.encode())), 50)] for prompt in sys.argv[1:]]))
"""
MANY = (
    "transformer",
    "lstm",
    "lstmcell",
    "rnn",
    "gpt1-tiny",
    "gpt2-tiny",
    "albert-tiny",
    "sparse-tiny",
    "encdec",
    "bert",
)


def session(graph: Any) -> Any:
    return onnx_folder.session(graph)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gru", *MANY])
def test_any_number_of_rows_and_any_length_give_the_numbers_of_pytorch(arch: str) -> None:
    model = build(arch)
    made = graphs(model)
    onnx_folder.check(model, made)
    for name, graph in made.items():
        declared = session(graph)
        assert {i.name: i.shape for i in declared.get_inputs()} == graph.inputs, name
        assert {o.name: o.shape for o in declared.get_outputs()} == graph.outputs, name
    if "start" in made:  # and against the model itself, not what was traced
        text = tokens(2, 9)
        read = session(made["start"]).run(None, {"tokens": text[:, :6].numpy()})
        logits = [*read[0].swapaxes(0, 1)]
        for token in text[:, 6:].T:
            read = session(made["step"]).run(
                None, dict(zip(made["step"].inputs, [token.numpy(), *read[1:]], strict=True))
            )
            logits.append(read[0])
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(np.stack(logits, 1)), model(text).logits, atol=1e-4, rtol=0)


def test_a_graph_that_computes_something_else_is_noticed() -> None:
    model = build("gru")
    made = graphs(model)
    with torch.no_grad():
        model.head.bias[0] += 0.01
    with pytest.raises(SettingsError, match=r"start\.onnx, of 1 x 2 tokens, differs by 1\.0e-02"):
        onnx_folder.check(model, made)


@pytest.mark.parametrize(
    ("arch", "reason"),
    [
        ("word2vec", "networks that read a text"),
        ("transformer-xl", "does neither"),
        pytest.param("switch-tiny", "a shape depends on numbers", marks=pytest.mark.slow),
        pytest.param("seq2seq", "or on a length", marks=pytest.mark.slow),
    ],
)
def test_what_no_graph_can_hold_is_refused(arch: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        graphs(build(arch))


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "sizes"), SMALLEST.items())
def test_the_program_beside_the_graphs_writes_what_charlm_writes(
    arch: str, sizes: dict[str, Any], tmp_path: Path, typed: Typed
) -> None:
    """Past the end of a window, and from a prompt longer than it; with ONNX Runtime and without PyTorch."""
    train_on_verses(tmp_path, arch=arch, hidden_size=16, steps=20, seq_len=16, **sizes)
    code, out, _ = typed("export", "run", "graphs", "--format", "onnx")
    assert (code, "write.py" in out) == (0, True)
    writer, prompts = charlm.load("run"), ["PEG.", "", (tmp_path / "verses.txt").read_text()[:41]]
    ran = subprocess.run([sys.executable, "-c", GREEDY, *prompts], capture_output=True, text=True, check=True)
    for prompt, ids in zip(prompts, json.loads(ran.stdout), strict=True):
        assert writer.tokenizer.decode(ids) == writer.sample(prompt, 50, temperature=0.0), prompt
    about = json.loads(Path("graphs/model.json").read_text(encoding="utf-8"))
    assert about["window"] == (16 if arch == "transformer" else None)
    assert sorted(os.listdir("graphs")) == sorted(out.partition("\n")[0].partition(": ")[2].split(", "))
    assert typed("export", "run", "graphs", "--format", "onnx")[2].startswith("charlm: graphs exists already")


@pytest.mark.slow
def test_what_reads_a_source_or_fills_gaps_says_what_its_graphs_get(tmp_path: Path, typed: Typed) -> None:
    small = ["--hidden-size", "16", "--layers", "1", "--steps", "2", "--quiet"]
    backwards(tmp_path / "back.tsv")
    assert typed("train", "back.tsv", "--arch", "encdec", "--tokenizer", "char", *small, "--out", "pairs")[0] == 0
    train_on_verses(tmp_path, arch="bert", hidden_size=16, layers=1, steps=2)
    for run, names in {"pairs": ["read", "step"], "run": ["fill"]}.items():
        assert typed("export", run, f"{run}-graphs", "--format", "onnx")[0] == 0
        about = json.loads(Path(f"{run}-graphs/model.json").read_text(encoding="utf-8"))
        assert [*about["graphs"]] == names
        assert about["tokens"][about["start"]] == "\n"
        files = {"README.md", "model.json", "tokenizer.json", *(f"{name}.onnx" for name in names)}
        assert {*os.listdir(f"{run}-graphs")} == files
    read = onnxruntime.InferenceSession("pairs-graphs/read.onnx").run(None, {"source": np.array([[2, 3, -1]])})
    assert read[0].shape[:1] == (1,)


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path, typed: Typed) -> None:
    train_on_labels(tmp_path, steps=2)
    code, _, error = typed("export", "run", "graphs", "--format", "onnx")
    assert (code, error.count("\n")) == (2, 1)
    assert "run, --arch lstm, is not written: ONNX is for networks that read a text" in error
    assert not any("graphs" in name for name in os.listdir())
