"""ModernBERT as an ONNX graph, on packed sequences.

The graph takes what a `PackedBatch` holds and gives the last hidden state:

- `input_ids`: `(total,)` int64.
- `cu_seqlens`: `(n_seqs + 1,)` int64.
- `last_hidden_state`: `(total, width)` float32.

All lengths are dynamic, and no table of positions limits them.
Sliding-window layers cut the packed stream into blocks, and full-attention layers go
through it sequence by sequence, in a `Loop`: nothing is padded, and no mask grows with
the square of a length. `MultiHeadAttention` and `RotaryEmbedding` are operators of ONNX
Runtime, https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
The former holds no matrix of scores on the CPU where it is given no mask.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..blocks import block_size, reach
from ..config import FULL, ModernBertConfig
from ..weights import expected_shapes

INPUT_IDS = "input_ids"
CU_SEQLENS = "cu_seqlens"
OUTPUT = "last_hidden_state"

# Where the weights are said to be. Whoever runs or saves a graph puts them in.
WEIGHTS = "model.onnx.data"

# What wordpieces are looked up in.
TABLE = "embeddings.tok_embeddings.weight"

# Where ONNX Runtime's own operators are.
MICROSOFT = "com.microsoft"

# The first with Gelu, whose default is the exact one.
_OPSET = 20
_IR_VERSION = 9

FLOAT_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}

# Added to the score of a key that is not seen: far below any score, and within the
# range of float16. In every row some key is seen, so no row is all of these.
_UNSEEN = -10000.0


def build_graph(config: ModernBertConfig, precision: str) -> onnx.ModelProto:
    """The graph of an encoder, without its weights.

    config (ModernBertConfig): The config.
    precision (str): "float32" or "float16": what is computed in. Positions are always
        float32, and so is the output.
    RETURNS (onnx.ModelProto): The model. Its weights, which have the names and shapes
        of `expected_shapes` and the type of the precision, are external data.
    """
    dtype = FLOAT_TYPES[precision]
    nodes = Nodes()
    plan = _plan(nodes, config, dtype)
    x = nodes.add("Gather", TABLE, INPUT_IDS)
    x = _norm(nodes, config, "embeddings.norm", x)
    for index in range(config.num_hidden_layers):
        x = _layer(nodes, config, index, x, plan)
    x = _norm(nodes, config, "final_norm", x)
    nodes.add("Cast", x, to=TensorProto.FLOAT, output=OUTPUT)
    weights = [
        external(name, shape, dtype) for name, shape in expected_shapes(config).items()
    ]
    graph = helper.make_graph(
        nodes.nodes,
        "ModernBERT",
        [
            helper.make_tensor_value_info(INPUT_IDS, TensorProto.INT64, ["total"]),
            helper.make_tensor_value_info(CU_SEQLENS, TensorProto.INT64, ["n_bounds"]),
        ],
        [
            helper.make_tensor_value_info(
                OUTPUT, TensorProto.FLOAT, ["total", config.hidden_size]
            )
        ],
        [*nodes.constants.values(), *weights],
    )
    return helper.make_model(
        graph,
        producer_name="spacy-modernbert",
        ir_version=_IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            helper.make_opsetid(MICROSOFT, 1),
        ],
    )


class Nodes:
    """The nodes of a graph, in the order in which they are added.

    Values are known by their names. A constant is named after its value, so that the
    graph has it once, however often it is asked for.
    """

    def __init__(self, prefix: str = ""):
        """prefix (str): Begins all names, which must differ from those of the graph
        around this one, if there is any.
        """
        self.prefix = prefix
        self.nodes: List[onnx.NodeProto] = []
        self.constants: Dict[str, onnx.TensorProto] = {}

    def add(
        self,
        op: str,
        *inputs: str,
        domain: str = "",
        output: str = "",
        **attributes: Any,
    ) -> str:
        """RETURNS (str): The output of a node of this kind."""
        return self._add(op, inputs, [output or self._name(op)], domain, attributes)[0]

    def split(self, x: str, n_parts: int) -> List[str]:
        """RETURNS (List[str]): Equal parts of the last axis."""
        names = [f"{self._name('Split')}.{part}" for part in range(n_parts)]
        attributes = {"axis": -1, "num_outputs": n_parts}
        return self._add("Split", [x], names, "", attributes)

    def ints(self, *values: int) -> str:
        """RETURNS (str): A constant vector."""
        return self._constant(np.array(values, dtype=np.int64))

    def number(self, value: int) -> str:
        """RETURNS (str): A constant scalar."""
        return self._constant(np.array(value, dtype=np.int64))

    def byte(self, value: int) -> str:
        """RETURNS (str): A constant scalar, uint8."""
        return self._constant(np.array(value, dtype=np.uint8))

    def floats(self, values: npt.ArrayLike) -> str:
        """RETURNS (str): A constant of any shape."""
        return self._constant(np.asarray(values, dtype=np.float32))

    def _add(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: List[str],
        domain: str,
        attributes: Mapping[str, Any],
    ) -> List[str]:
        name = self._name(op)
        node = helper.make_node(op, inputs, outputs, name, domain=domain, **attributes)
        self.nodes.append(node)
        return outputs

    def _name(self, op: str) -> str:
        return f"{self.prefix}{op}_{len(self.nodes)}"

    def _constant(self, array: npt.NDArray[Any]) -> str:
        values = ",".join(map(repr, array.ravel().tolist()))
        name = f"{self.prefix}{array.dtype}{list(array.shape)}({values})"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name


@dataclass(frozen=True)
class _Plan:
    """What every layer needs to know of a packed batch: names of values.

    total (str): `(1,)`, the positions of the stream.
    stream (str): `(1, total)`, 0, 1, 2, ...
    rotations (Mapping[str, Tuple[str, str]]): By layer type, cosine and sine of the
        rotary embedding, each `(total, head_dim / 2)`. Positions count from the start
        of each sequence.
    queries (str): `(n_blocks, size)`, the positions of the stream that each block of
        the sliding-window layers asks for. Beyond the stream, its last one.
    keys (str): `(n_blocks, size + 2 * half_window)`, those that it looks at. Beyond
        the stream, its first or last one.
    bias (str): `(n_blocks, 1, size, size + 2 * half_window)`, 0 where the query sees
        the key: within the window, in the same sequence and in the stream.
    dtype (int): What the layers compute in, a type of ONNX.
    """

    total: str
    stream: str
    rotations: Mapping[str, Tuple[str, str]]
    queries: str
    keys: str
    bias: str
    dtype: int


def _plan(nodes: Nodes, config: ModernBertConfig, dtype: int) -> _Plan:
    total = nodes.add("Shape", INPUT_IDS)
    length = nodes.add("Squeeze", total)
    stream = nodes.add("Range", nodes.number(0), length, nodes.number(1))
    starts = nodes.add("Slice", CU_SEQLENS, nodes.ints(0), nodes.ints(-1))
    # A 1 where a sequence starts; their running sum counts the sequences from 1.
    marks = nodes.add(
        "ScatterElements",
        nodes.add("Expand", nodes.number(0), total),
        starts,
        nodes.add("Expand", nodes.number(1), nodes.add("Shape", starts)),
    )
    counted = nodes.add("CumSum", marks, nodes.number(0))
    sequence = nodes.add("Sub", counted, nodes.number(1))
    positions = nodes.add("Sub", stream, nodes.add("Gather", starts, sequence))
    half, size = _block(nodes, config.half_window, positions)
    queries, keys, seen = _blocks(nodes, half, size, length, sequence)
    bias = nodes.add("Where", seen, nodes.floats(0.0), nodes.floats(_UNSEEN))
    return _Plan(
        total=total,
        stream=nodes.add("Unsqueeze", stream, nodes.ints(0)),
        rotations={
            kind: _rotation(nodes, positions, config.rope_periods(kind), dtype)
            for kind in sorted(set(config.layer_types))
        },
        queries=queries,
        keys=keys,
        bias=nodes.add("Cast", bias, to=dtype),
        dtype=dtype,
    )


def _block(nodes: Nodes, half_window: int, positions: str) -> Tuple[str, str]:
    """How far a query looks, and the queries of a block. As `blocks.reach` does it, a
    long window reaches no farther than the longest sequence.
    """
    least = reach(half_window, 1)
    if least == half_window:
        return nodes.number(half_window), nodes.number(block_size(half_window))
    last = nodes.add("ReduceMax", positions, keepdims=0)
    longest = nodes.add("Add", last, nodes.number(1))
    half = nodes.add("Max", longest, nodes.number(least))
    half = nodes.add("Min", half, nodes.number(half_window))
    return half, half


def _blocks(
    nodes: Nodes, half: str, size: str, length: str, sequence: str
) -> Tuple[str, str, str]:
    """Blocks as positions to gather: queries, the keys that they look at, and which of
    these are seen.
    """
    zero, one = nodes.number(0), nodes.number(1)
    last = nodes.add("Sub", length, one)
    n_blocks = nodes.add("Add", nodes.add("Div", last, size), one)
    block = nodes.add("Range", zero, n_blocks, one)
    first = nodes.add("Unsqueeze", nodes.add("Mul", block, size), nodes.ints(1))
    of_queries = nodes.add("Range", zero, size, one)
    of_keys = nodes.add(
        "Range", nodes.add("Neg", half), nodes.add("Add", size, half), one
    )
    queries = nodes.add("Min", nodes.add("Add", first, of_queries), last)
    keys = nodes.add("Add", first, of_keys)
    inside = nodes.add("Max", nodes.add("Min", keys, last), zero)

    def pairs(op: str, of_queries: str, of_keys: str) -> str:
        rows = nodes.add("Unsqueeze", of_queries, nodes.ints(2))
        columns = nodes.add("Unsqueeze", of_keys, nodes.ints(1))
        return nodes.add(op, rows, columns)

    distance = nodes.add("Abs", pairs("Sub", queries, keys))
    near = nodes.add("LessOrEqual", distance, half)
    of_one_sequence = pairs(
        "Equal",
        nodes.add("Gather", sequence, queries),
        nodes.add("Gather", sequence, inside),
    )
    in_stream = nodes.add("Unsqueeze", nodes.add("Equal", keys, inside), nodes.ints(1))
    seen = nodes.add("And", nodes.add("And", near, of_one_sequence), in_stream)
    return queries, inside, nodes.add("Unsqueeze", seen, nodes.ints(1))


def _rotation(
    nodes: Nodes, positions: str, periods: npt.NDArray[np.float32], dtype: int
) -> Tuple[str, str]:
    """Cosine and sine. Angles are in float32, whatever the rest is computed in."""
    positions = nodes.add("Cast", positions, to=TensorProto.FLOAT)
    positions = nodes.add("Unsqueeze", positions, nodes.ints(1))
    angles = nodes.add("Mul", positions, nodes.floats(np.float32(1.0) / periods))
    cos, sin = (nodes.add(op, angles) for op in ("Cos", "Sin"))
    return nodes.add("Cast", cos, to=dtype), nodes.add("Cast", sin, to=dtype)


def _layer(
    nodes: Nodes, config: ModernBertConfig, index: int, x: str, plan: _Plan
) -> str:
    layer = f"layers.{index}"
    # What enters the first layer was normed by the embeddings.
    normed = _norm(nodes, config, f"{layer}.attn_norm", x) if index > 0 else x
    x = nodes.add("Add", x, _attention(nodes, config, index, normed, plan))
    normed = _norm(nodes, config, f"{layer}.mlp_norm", x)
    return nodes.add("Add", x, _mlp(nodes, config, f"{layer}.mlp", normed))


def _mlp(nodes: Nodes, config: ModernBertConfig, name: str, x: str) -> str:
    inner = _linear(nodes, f"{name}.Wi", x, config.mlp_bias)
    value, gate = nodes.split(inner, 2)
    inner = nodes.add("Mul", nodes.add("Gelu", value), gate)
    return _linear(nodes, f"{name}.Wo", inner, config.mlp_bias)


def _attention(
    nodes: Nodes, config: ModernBertConfig, index: int, x: str, plan: _Plan
) -> str:
    name, layer_type = f"layers.{index}.attn", config.layer_types[index]
    qkv = _linear(nodes, f"{name}.Wqkv", x, config.attention_bias)
    # These operators want a batch: one stream.
    qkv = nodes.add("Unsqueeze", qkv, nodes.ints(0))
    query, key, value = nodes.split(qkv, 3)
    cos, sin = plan.rotations[layer_type]
    query, key = (
        nodes.add("RotaryEmbedding", each, plan.stream, cos, sin, domain=MICROSOFT)
        for each in (query, key)
    )
    if layer_type == FULL:
        attended = _attend_globally(nodes, config, query, key, value, plan.dtype)
    else:
        attended = _attend_within_window(nodes, config, query, key, value, plan)
    return _linear(nodes, f"{name}.Wo", attended, config.attention_bias)


def _attend_within_window(
    nodes: Nodes,
    config: ModernBertConfig,
    query: str,
    key: str,
    value: str,
    plan: _Plan,
) -> str:
    """query, key, value (str): `(1, total, width)`.
    RETURNS (str): `(total, width)`.
    """
    query, key, value = (
        nodes.add("Gather", nodes.add("Squeeze", each, nodes.ints(0)), positions)
        for each, positions in (
            (query, plan.queries),
            (key, plan.keys),
            (value, plan.keys),
        )
    )
    attended = _attend(nodes, config, query, key, value, "", "", plan.bias)
    stream = nodes.add("Reshape", attended, nodes.ints(-1, config.hidden_size))
    return nodes.add("Slice", stream, nodes.ints(0), plan.total)


def _attend_globally(
    nodes: Nodes,
    config: ModernBertConfig,
    query: str,
    key: str,
    value: str,
    dtype: int,
) -> str:
    """Sequence by sequence. Arguments and result are those of `_attend_within_window`.

    dtype (int): The type of the values, which a sequence of tensors has to declare.
    """
    body = Nodes(f"{query}/")
    index, go_on, before = (body.prefix + name for name in ("index", "go_on", "before"))
    next_index = body.add("Add", index, body.number(1))
    start, end = (
        body.add("Unsqueeze", body.add("Gather", CU_SEQLENS, each), body.ints(0))
        for each in (index, next_index)
    )
    parts = [
        body.add("Slice", each, start, end, body.ints(1))
        for each in (query, key, value)
    ]
    after = body.add("SequenceInsert", before, _attend(body, config, *parts))
    going_on = body.add("Identity", go_on)
    of_tensors = helper.make_tensor_sequence_value_info
    each_sequence = helper.make_graph(
        body.nodes,
        "each_sequence",
        [
            helper.make_tensor_value_info(index, TensorProto.INT64, []),
            helper.make_tensor_value_info(go_on, TensorProto.BOOL, []),
            of_tensors(before, dtype, None),
        ],
        [
            helper.make_tensor_value_info(going_on, TensorProto.BOOL, []),
            of_tensors(after, dtype, None),
        ],
        list(body.constants.values()),
    )
    n_seqs = nodes.add("Sub", nodes.add("Size", CU_SEQLENS), nodes.number(1))
    nothing = nodes.add("SequenceEmpty", dtype=dtype)
    outputs = nodes.add("Loop", n_seqs, "", nothing, body=each_sequence)
    stream = nodes.add("ConcatFromSequence", outputs, axis=1)
    return nodes.add("Squeeze", stream, nodes.ints(0))


def _attend(nodes: Nodes, config: ModernBertConfig, *inputs: str) -> str:
    return nodes.add(
        "MultiHeadAttention",
        *inputs,
        domain=MICROSOFT,
        num_heads=config.num_attention_heads,
    )


def _linear(nodes: Nodes, name: str, x: str, bias: bool) -> str:
    """`x @ weight.T + bias`, for x of `(total, width)`."""
    inputs = [f"{name}.weight", f"{name}.bias"] if bias else [f"{name}.weight"]
    return nodes.add("Gemm", x, *inputs, transB=1)


def _norm(nodes: Nodes, config: ModernBertConfig, name: str, x: str) -> str:
    inputs = [f"{name}.weight"]
    if config.norm_bias:
        inputs.append(f"{name}.bias")
    return nodes.add("LayerNormalization", x, *inputs, epsilon=config.norm_eps)


def external(name: str, shape: Sequence[int], dtype: int) -> onnx.TensorProto:
    """A tensor that stands elsewhere: whoever runs or saves a graph puts it in.

    name (str): Its name.
    shape (Sequence[int]): Its shape.
    dtype (int): Its type, one of ONNX.
    RETURNS (onnx.TensorProto): The tensor, without its values.
    """
    tensor = TensorProto(name=name, data_type=dtype, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=WEIGHTS)
    return tensor
