"""From a computation to a graph of ONNX: traced by PyTorch, or a traced step repeated over a text."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from charlm.errors import SettingsError

OPSET = 20
Shape = list[int | str]  # a string names a size that may differ from call to call
Run = Callable[..., tuple[Tensor, ...]]


class Graph(NamedTuple):
    """One file: the graph, and the computation that it must equal."""

    proto: onnx.ModelProto
    same: Run
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def traced(
    run: Callable[..., tuple[Tensor, ...]],
    network: nn.Module,
    example: tuple[Tensor, ...],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
) -> Graph:
    """`run`, recorded by PyTorch. Raises `SettingsError` where a shape depends on numbers, or was taken to be fixed."""

    class Traced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network  # its weights are part of the graph

        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            return run(*given)

    free = [
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(shape) if isinstance(size, str)}
        for shape in inputs.values()
    ]
    with quiet():
        try:
            program = torch.onnx.export(
                Traced().eval(),
                example,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(tuple(free),),
            )
        except torch.onnx.OnnxExporterError:
            raise SettingsError(
                "PyTorch cannot write it as ONNX: a shape depends on numbers, or on a length in a way that is lost"
            ) from None
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]  # sizes of the example, which some operators leave there
    for part in (proto.graph, *proto.functions):
        for node in part.node:
            del node.metadata_props[:]  # the lines of Python that it comes from
    for values, shapes in ((proto.graph.input, inputs), (proto.graph.output, outputs)):
        for value, shape in zip(values, shapes.values(), strict=True):
            describe(value, shape)
    return Graph(proto, run, inputs, outputs)


def describe(value: onnx.ValueInfoProto, shape: Shape) -> None:
    """Name the sizes that may differ."""
    dims = value.type.tensor_type.shape.dim
    for dim, size in zip(dims, shape, strict=True):
        dim.Clear()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size


def repeated(one: Graph, blank: Sequence[Tensor], outputs: dict[str, Shape], run: Run) -> Graph:
    """The step `one` for each token of a text, from a `blank` page of one row, as `run` computes it."""
    body, states = one.proto.graph, list(one.inputs)[1:]
    constants = [numpy_helper.from_array(t.numpy(), f"blank.{name}") for name, t in zip(states, blank, strict=True)]
    nodes = [helper.make_node("Shape", ["tokens"], ["rows"], start=0, end=1)]
    for name, leaf in zip(states, blank, strict=True):
        ones = numpy_helper.from_array(torch.ones(leaf.dim() - 1, dtype=torch.long).numpy(), f"ones.{name}")
        constants.append(ones)
        nodes.append(helper.make_node("Concat", ["rows", ones.name], [f"shape.{name}"], axis=0))
        nodes.append(helper.make_node("Expand", [f"blank.{name}", f"shape.{name}"], [f"first.{name}"]))
    inner = helper.make_graph(
        body.node,
        "one token",
        [*body.input[1:], body.input[0]],
        [*body.output[1:], body.output[0]],
    )
    scan = helper.make_node(
        "Scan",
        [*(f"first.{name}" for name in states), "tokens"],
        [*list(outputs)[1:], "logits"],
        body=inner,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    values = dict(zip(outputs, body.output, strict=True))
    types = {name: value.type.tensor_type.elem_type for name, value in values.items()}
    graph = helper.make_graph(
        [*nodes, scan],
        "start",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info(name, types[name], shape) for name, shape in outputs.items()],
        [*body.initializer, *constants],
    )
    proto = onnx.ModelProto()
    proto.CopyFrom(one.proto)
    proto.graph.CopyFrom(graph)
    return Graph(proto, run, {"tokens": ["rows", "length"]}, outputs)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what PyTorch says to those who mend exporters."""
    logging.disable()
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
