"""From a run to a folder of ONNX graphs, with what is needed to write with them, checked before it is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from charlm.errors import SettingsError
from charlm.exporting.graphs import graphs
from charlm.exporting.tracing import OPSET, Graph
from charlm.files import free, new_folder
from charlm.model import parameter_count
from charlm.progress import Progress
from charlm.runs.saved import Saved

EXACT = 1e-4  # by how much a number may differ from PyTorch's, of numbers above 1 in proportion
LARGEST = 1_900_000_000  # bytes of weights: a file of ONNX holds 2 GB
CHECKED = (1, 2), (3, 5)  # rows and tokens of the texts that both must read alike
STEPS = 3  # tokens that follow each of them
EXPLAINED = "README.md"
PROGRAM = "write.py"  # goes on with a text


def export_onnx(run: Path, target: Path, weights: str = "best") -> Generator[Progress, None, list[str]]:
    """Write a run as the folder `target`, which must not hold anything; returns the names of the files in it.

    Raises `SettingsError` for a run that no graphs can hold, or whose graphs compute other numbers.
    """
    if not free(target):
        raise SettingsError(f"{target} exists already; move it away, or name another folder")
    saved = Saved.open(run)
    network = saved.network(weights).eval()
    if 4 * parameter_count(network) > LARGEST:
        raise SettingsError(f"{run} has more than {LARGEST / 1e9:g} GB of weights, and a file of ONNX holds 2 GB")
    yield Progress("tracing", 0, 2)
    try:
        made = graphs(network)
        yield Progress("checking", 1, 2)
        check(network, made)
    except SettingsError as error:
        raise SettingsError(f"{run}, --arch {saved.plan.arch}, is not written: {error}") from None
    with new_folder(target) as beside:
        for name, graph in made.items():
            onnx.save_model(graph.proto, beside / f"{name}.onnx")
        text = json.dumps(described(saved, network, made), ensure_ascii=False, indent=1) + "\n"
        (beside / "model.json").write_text(text, encoding="utf-8")
        shutil.copyfile(run / "tokenizer.json", beside / "tokenizer.json")
        for file in (EXPLAINED, PROGRAM) if "start" in made else (EXPLAINED,):
            program = resources.files("charlm.exporting") / "beside" / file
            (beside / file).write_bytes(program.read_bytes())
        return sorted(path.name for path in beside.iterdir())


def described(saved: Saved, network: Any, made: Mapping[str, Graph]) -> dict[str, Any]:
    """What model.json says."""
    target = saved.vocabularies.target
    return {
        "arch": saved.plan.arch,
        "kind": saved.plan.kind,
        "objective": saved.plan.objective.name(),
        "opset": OPSET,
        "window": getattr(network, "window", network.spec.lengths.window) if "read" not in made else None,
        "lengths": network.spec.lengths._asdict(),
        "start": target.start,
        "symbols": network.spec.input_size - network.spec.vocab_size,
        "graphs": {name: {"inputs": graph.inputs, "outputs": graph.outputs} for name, graph in made.items()},
        "tokens": [token.decode("latin-1") for token in target.tokens],
        **({} if saved.vocabularies.shared else sides(saved)),
        "settings": saved.plan.to_dict()["model"],
    }


def sides(saved: Saved) -> dict[str, Any]:
    """The tokens of a source in another vocabulary."""
    return {"source_tokens": [token.decode("latin-1") for token in saved.vocabularies.source.tokens]}


@torch.inference_mode()
def check(network: Any, made: Mapping[str, Graph]) -> None:
    """Raise `SettingsError` unless ONNX Runtime computes PyTorch's numbers, at several lengths and numbers of rows."""
    sessions = {name: session(graph) for name, graph in made.items()}
    first, rng = next(iter(made)), torch.Generator().manual_seed(0)
    sizes = network.spec.source_vocab_size if first == "read" else None
    for rows, length in CHECKED:
        text = torch.randint(sizes or network.spec.vocab_size, (rows, length), generator=rng)
        ours = list(made[first].same(text))
        theirs = sessions[first].run(None, {next(iter(made[first].inputs)): text.numpy()})
        compare(ours, theirs, f"{first}.onnx, of {rows} x {length} tokens,")
        for _ in range(STEPS if "step" in made else 0):
            skipped = len(ours) - len(made["step"].inputs) + 1  # the logits, where there are some
            token = torch.randint(network.spec.vocab_size, (rows,), generator=rng)
            given = dict(zip(made["step"].inputs, [token.numpy(), *theirs[skipped:]], strict=True))
            ours, theirs = list(made["step"].same(token, *ours[skipped:])), sessions["step"].run(None, given)
            compare(ours, theirs, f"step.onnx, after {rows} x {length} tokens,")


def session(graph: Graph) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(graph.proto.SerializeToString(), options, ["CPUExecutionProvider"])


def compare(ours: list[Tensor], theirs: list[Any], what: str) -> None:
    for a, b in zip(ours, theirs, strict=True):
        expected = a.numpy()
        if expected.shape != b.shape:
            raise SettingsError(
                f"{what} has another shape in ONNX Runtime, {b.shape}, than in PyTorch, {expected.shape}"
            )
        if not np.allclose(b, expected, rtol=EXACT, atol=EXACT):
            worst = np.abs(b.astype(float) - expected).max()
            raise SettingsError(f"{what} differs by {worst:.1e} from what PyTorch computes")
