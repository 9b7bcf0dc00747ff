"""ModernBERT as a graph of OpenVINO, for any number and length of sequences.

Written so that the CPU plugin finds what it has kernels for: rotary embeddings,
attention and layer norms become one operation each. The constants of the graph are the
weights themselves, not copies.
"""

from dataclasses import dataclass
from typing import Any, List, Mapping

import numpy as np
import openvino as ov
from openvino import opset13 as op

from ...types import Floats
from ..config import FULL, ModernBertConfig
from ..int8 import round_rows

# OpenVINO's operations take its nodes, and single outputs of them, alike.
Node = Any


@dataclass(frozen=True)
class Inputs:
    """What a graph is fed: sequences padded to one length and laid end to end, which
    makes `n_rows = n_seqs * length`.

    ids (Node): `(n_seqs, length)` int64.
    is_wordpiece (Node): `(n_seqs, 1, 1, length)` bool, False where there is padding.
    rotations (Mapping[str, Node]): By layer type, cosine and sine of the rotary
        embedding, `(2, n_rows, 1, head_dim)` float32.
    query_rows (Node): `(n_blocks * size,)` int32, the rows that are the queries of each
        block of the sliding-window layers.
    key_rows (Node): `(n_blocks * n_keys,)` int32, the rows that each block looks at.
    block_mask (Node): `(n_blocks, 1, size, n_keys)` bool, True where the query sees
        the key.
    """

    ids: Node
    is_wordpiece: Node
    rotations: Mapping[str, Node]
    query_rows: Node
    key_rows: Node
    block_mask: Node


class Graph:
    """Builds the graph of an encoder.

    The hidden state is `(n_rows, width)` from the embeddings to the end.
    """

    def __init__(
        self,
        config: ModernBertConfig,
        tensors: Mapping[str, Floats],
        *,
        quantized: bool = False,
        attention: ov.Type = ov.Type.f32,
    ):
        """config (ModernBertConfig): The config.
        tensors (Mapping[str, Floats]): The weights by their names in a checkpoint,
            contiguous float32 arrays, which must outlive the model.
        quantized (bool): Whether projections have their weights in int8.
        attention (ov.Type): What attention is computed in. The rest is float32, and
            whoever compiles the graph says what that becomes.
        """
        self.config = config
        self.tensors = tensors
        self.as_weights = _quantize if quantized else _constant
        self.attention_type = attention

    def build(self, size: int, n_keys: int) -> ov.Model:
        """size (int): The queries of a block; -1 if that is only known with the inputs.
        n_keys (int): The keys that a block looks at; likewise.
        RETURNS (ov.Model): The graph. Its inputs have the names of `Inputs`, and those
            of the layer types; its output is the last hidden state.
        """
        parameters: List[Node] = []

        def add(name: str, shape: List[int], dtype: Any) -> Node:
            node = op.parameter(shape, dtype, name)
            node.output(0).set_names({name})
            parameters.append(node)
            return node

        rotation = [2, -1, 1, self.config.head_dim]
        inputs = Inputs(
            ids=add("ids", [-1, -1], np.int64),
            is_wordpiece=add("is_wordpiece", [-1, 1, 1, -1], np.bool_),
            rotations={
                layer_type: add(layer_type, rotation, np.float32)
                for layer_type in sorted(set(self.config.layer_types))
            },
            query_rows=add("query_rows", [-1], np.int32),
            key_rows=add("key_rows", [-1], np.int32),
            block_mask=add("block_mask", [-1, 1, size, n_keys], np.bool_),
        )
        return ov.Model([self._encode(inputs)], parameters, "modernbert")

    def _encode(self, inputs: Inputs) -> Node:
        table = self._constant("embeddings.tok_embeddings.weight")
        ids = op.reshape(inputs.ids, _ints(-1), False)
        x = self._norm(op.gather(table, ids, _int(0)), "embeddings.norm")
        attention = {
            layer_type: Attention(self.config, layer_type, inputs, self.attention_type)
            for layer_type in set(self.config.layer_types)
        }
        for index, layer_type in enumerate(self.config.layer_types):
            x = self._layer(x, f"layers.{index}", attention[layer_type])
        return self._norm(x, "final_norm")

    def _layer(self, x: Node, name: str, attention: "Attention") -> Node:
        # What enters the first layer was normed by the embeddings.
        has_norm = f"{name}.attn_norm.weight" in self.tensors
        normed = self._norm(x, f"{name}.attn_norm") if has_norm else x
        query, key, value = self._linears(normed, f"{name}.attn.Wqkv", 3)
        attended = attention(query, key, value)
        x = op.add(x, self._linear(attended, f"{name}.attn.Wo"))
        # GeGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202): `Wi` holds the input
        # and its gate.
        normed = self._norm(x, f"{name}.mlp_norm")
        inner, gate = self._linears(normed, f"{name}.mlp.Wi", 2)
        inner = op.multiply(op.gelu(inner, "erf"), gate)
        return op.add(x, self._linear(inner, f"{name}.mlp.Wo"))

    def _norm(self, x: Node, name: str) -> Node:
        eps = self.config.norm_eps
        normed = op.mvn(x, _ints(-1), True, eps, "inside_sqrt")
        normed = op.multiply(normed, self._constant(f"{name}.weight"))
        if f"{name}.bias" in self.tensors:
            normed = op.add(normed, self._constant(f"{name}.bias"))
        return normed

    def _linear(self, x: Node, name: str) -> Node:
        (output,) = self._linears(x, name, 1)
        return output

    def _linears(self, x: Node, name: str, n_parts: int) -> List[Node]:
        """A projection whose output is wanted in parts. Each is a product of its own
        with a view of some rows of the weights: nothing has to be cut up afterwards.
        """
        outputs = []
        for part in range(n_parts):
            weights = _rows(self.tensors[f"{name}.weight"], part, n_parts)
            output = op.matmul(x, self.as_weights(weights), False, True)
            if f"{name}.bias" in self.tensors:
                bias = _rows(self.tensors[f"{name}.bias"], part, n_parts)
                output = op.add(output, _constant(bias))
            outputs.append(output)
        return outputs

    def _constant(self, name: str) -> Node:
        return _constant(self.tensors[name])


class Attention:
    """Attention of one kind of layer. What does not depend on the layer is in the graph
    once.
    """

    def __init__(
        self,
        config: ModernBertConfig,
        layer_type: str,
        inputs: Inputs,
        element_type: ov.Type,
    ):
        """config (ModernBertConfig): The config.
        layer_type (str): Whether the layer is full or has a sliding window.
        inputs (Inputs): Those of the graph.
        element_type (ov.Type): Of what is multiplied. Rotations are of float32.
        """
        self.element_type = element_type
        self.heads = [config.num_attention_heads, config.head_dim]
        self.width = config.hidden_size
        self.inputs = inputs
        self.is_full = layer_type == FULL
        # The compiler makes constants of what is known beforehand.
        block_mask = op.shape_of(inputs.block_mask, "i64")
        self.block_shape = [
            op.gather(block_mask, _ints(axis), _int(0)) for axis in (2, 3)
        ]
        both = op.split(inputs.rotations[layer_type], _int(0), 2)
        self.key_rotation = both.outputs()
        # Scaling the rotation of the queries scales the scores at no cost.
        scale = _floats(config.head_dim**-0.5)
        self.query_rotation = [op.multiply(part, scale) for part in both.outputs()]
        seen = inputs.is_wordpiece if self.is_full else inputs.block_mask
        mask = op.select(seen, _floats(0.0), _floats(-np.inf))
        self.mask = _as_type(mask, element_type)
        self.scale = op.constant(1.0, dtype=element_type)

    def __call__(self, query: Node, key: Node, value: Node) -> Node:
        """query, key, value (Node): `(n_rows, width)`, float32.
        RETURNS (Node): `(n_rows, width)`, float32.
        """
        query = self._rotate(query, self.query_rotation)
        key = self._rotate(key, self.key_rotation)
        # Before the copies that follow, which are half as large in bfloat16.
        query, key, value = (
            _as_type(x, self.element_type) for x in (query, key, value)
        )
        if self.is_full:
            n_seqs_length = op.shape_of(self.inputs.ids, "i64")
            shape = op.concat([n_seqs_length, _ints(*self.heads)], 0)
            query, key, value = (
                op.reshape(x, shape, False) for x in (query, key, value)
            )
            return self._attend(query, key, value)
        size, n_keys = self.block_shape
        n_rows = op.gather(op.shape_of(query, "i64"), _ints(0), _int(0))
        query = self._cut(query, self.inputs.query_rows, size)
        key = self._cut(key, self.inputs.key_rows, n_keys)
        value = self._cut(value, self.inputs.key_rows, n_keys)
        attended = self._attend(query, key, value)
        # The last block may reach beyond the stream.
        return op.slice(attended, _ints(0), n_rows, _ints(1), _ints(0))

    def _cut(self, x: Node, rows: Node, size: Node) -> Node:
        x = op.gather(x, rows, _int(0))
        shape = op.concat([_ints(-1), size, _ints(*self.heads)], 0)
        return op.reshape(x, shape, False)

    def _attend(self, query: Node, key: Node, value: Node) -> Node:
        """query, key, value (Node): `(n, length, heads, head_dim)`.
        RETURNS (Node): `(n * length, width)`.
        """
        order = _ints(0, 2, 1, 3)
        query, key, value = (op.transpose(x, order) for x in (query, key, value))
        attended = op.scaled_dot_product_attention(
            query, key, value, self.mask, self.scale
        )
        attended = _as_type(op.transpose(attended, order), ov.Type.f32)
        return op.reshape(attended, _ints(-1, self.width), False)

    def _rotate(self, x: Node, rotation: List[Node]) -> Node:
        cos, sin = rotation
        x = op.reshape(x, _ints(1, -1, *self.heads), False)
        half = self.heads[1] // 2
        first, second = op.variadic_split(x, _int(3), _ints(half, half)).outputs()
        turned = op.concat([op.multiply(second, _floats(-1.0)), first], -1)
        x = op.add(op.multiply(x, cos), op.multiply(turned, sin))
        return op.reshape(x, _ints(-1, self.width), False)


def _rows(weights: Floats, part: int, n_parts: int) -> Floats:
    n_rows = weights.shape[0] // n_parts
    return weights[part * n_rows : (part + 1) * n_rows]


def _constant(weights: Floats) -> Node:
    return op.constant(weights, shared_memory=True)


def _quantize(weights: Floats) -> Node:
    rounded, scale = round_rows(weights)
    return op.multiply(op.convert(op.constant(rounded), "f32"), op.constant(scale))


def _as_type(x: Node, element_type: ov.Type) -> Node:
    if x.get_element_type() == element_type:
        return x
    return op.convert(x, element_type.get_type_name())


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, dtype=np.int64))


def _int(value: int) -> Node:
    return op.constant(np.array(value, dtype=np.int64))


def _floats(value: float) -> Node:
    return op.constant(np.array(value, dtype=np.float32))
