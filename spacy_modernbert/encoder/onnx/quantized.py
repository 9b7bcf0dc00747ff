"""The graph of an encoder that multiplies in 8 bits, and its weights.

Weights have a scale for each output, found once, and the table of embeddings has one
for each wordpiece; the inputs of a product have one for each position, found in each
pass. All are symmetric, from -127 to 127. So a position gives the same result alone and
together with any others. ONNX Runtime's own dynamic quantization takes one range for
all that is in a pass.
"""

from typing import Any, Iterator, Mapping, Tuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from ...types import Floats
from ..int8 import LARGEST, round_rows
from .graph import MICROSOFT, TABLE, Nodes, external

# What stands for 0 where numbers are unsigned.
_ZERO = 128


def quantize_graph(model: onnx.ModelProto, is_signed: bool) -> onnx.ModelProto:
    """Have a graph multiply in 8 bits, and look wordpieces up in a table of them.

    model (onnx.ModelProto): A graph of `build_graph`, in float32.
    is_signed (bool): Whether weights are int8, which takes half of the time where the
        processor has instructions for it (VNNI), or else uint8. Results are the same.
        Without these instructions, sums of int8 overflow:
        https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    RETURNS (onnx.ModelProto): Another model. Its weights, which have the names and
        shapes of `quantize_weights`, are external data.
    """
    graph = onnx.GraphProto(
        name=model.graph.name, input=model.graph.input, output=model.graph.output
    )
    nodes = Nodes("quantized/")
    for node in model.graph.node:
        if node.op_type == "Gemm":
            _multiply(nodes, node, is_signed)
        elif node.op_type == "Gather" and node.input[0] == TABLE:
            _look_up(nodes, node, is_signed)
        else:
            nodes.nodes.append(node)
    graph.node.extend(nodes.nodes)
    dtype = TensorProto.INT8 if is_signed else TensorProto.UINT8
    for tensor in model.graph.initializer:
        if not _is_matrix(tensor):
            graph.initializer.append(tensor)
            continue
        n_rows, n_columns = tensor.dims
        is_table = tensor.name == TABLE
        words = (n_rows, n_columns) if is_table else (n_columns, n_rows)
        scales = (n_rows, 1) if is_table else (n_rows,)
        graph.initializer.append(external(tensor.name, words, dtype))
        name = _scales_of(tensor.name)
        graph.initializer.append(external(name, scales, TensorProto.FLOAT))
    graph.initializer.extend(nodes.constants.values())
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    quantized.graph.CopyFrom(graph)
    return quantized


def quantize_weights(
    tensors: Mapping[str, Floats], is_signed: bool
) -> Iterator[Tuple[str, npt.NDArray[Any]]]:
    """The weights of a graph of `quantize_graph`.

    tensors (Mapping[str, Floats]): Those of the encoder, each asked for once.
    is_signed (bool): As that graph was told.
    YIELDS (Tuple[str, NDArray]): A name and a tensor: of a matrix, `(n_in, n_out)` int8
        or uint8 and its scales, `(n_out,)` float32; of the table, as many rows as it
        has, with scales of `(vocab_size, 1)`. Vectors are float32 as they were.
    """
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            yield name, np.asarray(tensor, np.float32)
            continue
        words, scales = round_rows(tensor)
        if not is_signed:
            words = words.view(np.uint8) + np.uint8(_ZERO)
        yield name, words if name == TABLE else np.ascontiguousarray(words.T)
        yield _scales_of(name), scales if name == TABLE else scales[:, 0]


def _multiply(nodes: Nodes, product: onnx.NodeProto, is_signed: bool) -> None:
    """What a product of two matrices of float32 becomes."""
    x, weight, *bias = product.input
    largest = nodes.add("ReduceMax", nodes.add("Abs", x), nodes.ints(-1))
    scale = nodes.add("Mul", largest, nodes.floats(1 / LARGEST))
    tiny = nodes.floats(np.finfo(np.float32).tiny)  # for rows of zeros
    steps = nodes.add("Div", x, nodes.add("Max", scale, tiny))
    # The kernels want them unsigned.
    zero, one = nodes.byte(_ZERO), nodes.floats(1.0)
    words = nodes.add("QuantizeLinear", steps, one, zero)
    zeros = [zero] if is_signed else [zero, zero]
    rows = nodes.add(
        "MatMulIntegerToFloat",
        *(words, weight, one, _scales_of(weight), *zeros),
        domain=MICROSOFT,
    )
    output = product.output[0]
    if bias:
        nodes.add("Add", nodes.add("Mul", rows, scale), bias[0], output=output)
    else:
        nodes.add("Mul", rows, scale, output=output)


def _look_up(nodes: Nodes, lookup: onnx.NodeProto, is_signed: bool) -> None:
    """What a look into the table of embeddings becomes."""
    table, ids = lookup.input
    rows = nodes.add("Gather", table, ids)
    rows = nodes.add("Cast", rows, to=TensorProto.FLOAT)
    if not is_signed:
        rows = nodes.add("Sub", rows, nodes.floats(_ZERO))
    scales = nodes.add("Gather", _scales_of(table), ids)
    nodes.add("Mul", rows, scales, output=lookup.output[0])


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    is_weight = tensor.data_location == TensorProto.EXTERNAL
    return is_weight and len(tensor.dims) == 2


def _scales_of(name: str) -> str:
    return f"{name}_scales"
