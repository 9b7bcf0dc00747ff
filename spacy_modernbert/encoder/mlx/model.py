"""ModernBERT in MLX, on packed sequences: functions of its weights.

Functions and not modules, since `mx.vjp` takes the gradients of functions, and since
weights that are arguments leave nothing behind in a module that another thread runs.
They have the names that they have in a checkpoint, so that no table of names is needed.
The oracle for the numbers is transformers' `ModernBertModel`.
"""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import mlx.core as mx

from ...types import PackedBatch
from ..blocks import mask_blocks
from ..config import FULL, SLIDING, ModernBertConfig

# The weights of the encoder or of a part of it, by names within that part. Of a
# quantized one there are three arrays: see `quantize`.
Weights = Mapping[str, mx.array]

# In global attention, this many queries at a time look at all keys. The scores thus
# grow with the length and not with its square, even where MLX has no fused attention:
# on the CPU, and in training.
_QUERIES = 1024


@dataclass(frozen=True)
class AttentionPlan:
    """What every layer needs to know of a packed batch.

    spans (List[Tuple[int, int]]): Start and end of each sequence in the stream.
    size (int): The sliding-window layers cut the stream into blocks of so many
        positions, at least the half window. Each block looks at itself and at its two
        neighbours, so that cost and memory grow with the length and not with its
        square.
    mask (mx.array): `(n_blocks, 1, size, 3 * size)` bool, True where the query sees
        the key: within the window, and in the same sequence. Boolean rather than
        additive, since a large negative number that is cast to another type can make
        rows NaN.

    Invariant: every row of the mask has a True in it, since a position sees itself,
    also one beyond the stream.
    """

    spans: List[Tuple[int, int]]
    size: int
    mask: mx.array

    def cut(self, x: mx.array) -> mx.array:
        """x (mx.array): `(total, heads, head_dim)`.
        RETURNS (mx.array): `(n_blocks, size, heads, head_dim)`.
        """
        n_blocks = self.mask.shape[0]
        missing = n_blocks * self.size - x.shape[0]
        padded = mx.pad(x, [(0, missing), (0, 0), (0, 0)])
        return padded.reshape(n_blocks, self.size, *x.shape[1:])

    def with_neighbours(self, blocks: mx.array) -> mx.array:
        """blocks (mx.array): `(n_blocks, size, heads, head_dim)`.
        RETURNS (mx.array): `(n_blocks, 3 * size, heads, head_dim)`.
        """
        padded = mx.pad(blocks, [(1, 1), (0, 0), (0, 0), (0, 0)])
        return mx.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)


def plan_attention(batch: PackedBatch, config: ModernBertConfig) -> AttentionPlan:
    """Work out a packed batch.

    batch (PackedBatch): The batch, not empty.
    config (ModernBertConfig): The encoder's config.
    RETURNS (AttentionPlan): The plan.
    """
    size, mask = mask_blocks(batch, config.half_window)
    return AttentionPlan(
        spans=list(itertools.pairwise(batch.cu_seqlens.tolist())),
        size=size,
        mask=mx.array(mask[:, None]),
    )


def within(weights: Weights, path: str) -> Dict[str, mx.array]:
    """RETURNS (Dict[str, mx.array]): The weights of a part, by their names in it."""
    start = f"{path}."
    return {
        name.removeprefix(start): array
        for name, array in weights.items()
        if name.startswith(start)
    }


class Dropout:
    """Dropout that repeats the same choices if it is made again from the same key.

    key (Optional[mx.array]): Of MLX's random numbers; None to drop nothing.
    """

    def __init__(self, key: Optional[mx.array] = None):
        self._key = key

    def __call__(self, x: mx.array, rate: float) -> mx.array:
        return drop(x, rate, self.draw_key(rate))

    def draw_key(self, rate: float) -> Optional[mx.array]:
        """RETURNS (Optional[mx.array]): A key for `drop`; None to drop nothing."""
        if self._key is None or rate == 0:
            return None
        self._key, key = mx.random.split(self._key)
        return key


def drop(x: mx.array, rate: float, key: Optional[mx.array]) -> mx.array:
    """Drop some numbers out, and scale up the others.

    x (mx.array): Of any shape.
    rate (float): The probability by which a number is dropped.
    key (Optional[mx.array]): Of MLX's random numbers; None to drop nothing.
    RETURNS (mx.array): Of the same shape.
    """
    if key is None:
        return x
    return mx.where(mx.random.bernoulli(1 - rate, x.shape, key), x / (1 - rate), 0)


def embed(
    weights: Weights, ids: mx.array, config: ModernBertConfig, dropout: Dropout
) -> mx.array:
    """weights (Weights): Of the embeddings.
    ids (mx.array): `(total,)`.
    config (ModernBertConfig): The config.
    dropout (Dropout): The dropout.
    RETURNS (mx.array): `(total, width)`.
    """
    rows = {part: w[ids] for part, w in within(weights, "tok_embeddings").items()}
    x = rows["weight"]
    if "scales" in rows:
        group_size, bits = _find_scheme(rows, config.hidden_size)
        x = mx.dequantize(x, rows["scales"], rows["biases"], group_size, bits)
    if config.pad_token_id is not None:
        # Its embedding never learns.
        is_pad = (ids == config.pad_token_id)[:, None]
        x = mx.where(is_pad, mx.stop_gradient(x), x)
    x = norm(within(weights, "norm"), x, config)
    return dropout(x, config.embedding_dropout)


def run_layer(
    weights: Weights,
    x: mx.array,
    plan: AttentionPlan,
    config: ModernBertConfig,
    layer_type: str,
    dropout: Dropout,
) -> mx.array:
    """weights (Weights): Of the layer.
    x (mx.array): `(total, width)`.
    plan (AttentionPlan): The plan of the batch.
    config (ModernBertConfig): The config.
    layer_type (str): "full_attention" or "sliding_attention".
    dropout (Dropout): The dropout.
    RETURNS (mx.array): `(total, width)`.
    """
    # What enters the first layer was normed by the embeddings.
    attn_norm = within(weights, "attn_norm")
    normed = norm(attn_norm, x, config) if attn_norm else x
    x = x + attend(within(weights, "attn"), normed, plan, config, layer_type, dropout)
    normed = norm(within(weights, "mlp_norm"), x, config)
    return x + feed_forward(within(weights, "mlp"), normed, config, dropout)


def attend(
    weights: Weights,
    x: mx.array,
    plan: AttentionPlan,
    config: ModernBertConfig,
    layer_type: str,
    dropout: Dropout,
) -> mx.array:
    """Attention. Arguments and result are those of `run_layer`; the weights are those
    of its attention.
    """
    qkv = linear(within(weights, "Wqkv"), x)
    qkv = qkv.reshape(-1, 3, config.num_attention_heads, config.head_dim)
    query, key, value = qkv[:, 0], qkv[:, 1], qkv[:, 2]
    attended = ATTENTION[layer_type](query, key, value, plan, config, dropout)
    output = linear(within(weights, "Wo"), attended.reshape(x.shape))
    return dropout(output, config.attention_dropout)


def attend_globally(
    query: mx.array,
    key: mx.array,
    value: mx.array,
    plan: AttentionPlan,
    config: ModernBertConfig,
    dropout: Dropout,
) -> mx.array:
    """Every wordpiece sees every other one of its sequence.

    query, key, value (mx.array): `(total, heads, head_dim)`.
    plan (AttentionPlan): The plan of the batch.
    config (ModernBertConfig): The config.
    dropout (Dropout): The dropout.
    RETURNS (mx.array): `(total, heads, head_dim)`.
    """
    periods = mx.array(config.rope_periods(FULL))
    rate = config.attention_dropout
    outputs = []
    for start, end in plan.spans:
        q, k, v = (x[start:end].swapaxes(0, 1)[None] for x in (query, key, value))
        q, k = rotate(q, periods), rotate(k, periods)
        for first in range(0, end - start, _QUERIES):
            look: Callable[..., mx.array] = partial(
                _look, mask=None, dropout=rate, dropout_key=dropout.draw_key(rate)
            )
            if end - start > _QUERIES:
                look = mx.checkpoint(look)  # keeps no scores for the backward pass
            output = look(q[:, :, first : first + _QUERIES], k, v)
            outputs.append(output[0].swapaxes(0, 1))
    return mx.concatenate(outputs)


def attend_within_window(
    query: mx.array,
    key: mx.array,
    value: mx.array,
    plan: AttentionPlan,
    config: ModernBertConfig,
    dropout: Dropout,
) -> mx.array:
    """Every wordpiece sees those of its sequence within the sliding window. Arguments
    and result are those of `attend_globally`.
    """
    queries = plan.cut(query)
    keys, values = (plan.with_neighbours(plan.cut(x)) for x in (key, value))
    q, k, v = (x.swapaxes(1, 2) for x in (queries, keys, values))
    # Only distances matter to the rotary embedding: positions may count from the start
    # of what a block sees, wherever that stands in its sequence.
    periods = mx.array(config.rope_periods(SLIDING))
    q, k = rotate(q, periods, offset=plan.size), rotate(k, periods)
    rate = config.attention_dropout
    output = _look(q, k, v, plan.mask, rate, dropout.draw_key(rate))
    return output.swapaxes(1, 2).reshape(-1, *query.shape[1:])[: query.shape[0]]


ATTENTION = {FULL: attend_globally, SLIDING: attend_within_window}


def _look(
    query: mx.array,
    key: mx.array,
    value: mx.array,
    mask: Optional[mx.array],
    dropout: float,
    dropout_key: Optional[mx.array],
) -> mx.array:
    """query, key, value (mx.array): `(batch, heads, length, head_dim)`."""
    scale = query.shape[-1] ** -0.5
    if dropout_key is None:
        return mx.fast.scaled_dot_product_attention(
            query, key, value, scale=scale, mask=mask
        )
    # MLX's own has no dropout.
    scores = (query * scale) @ key.swapaxes(-1, -2)
    if mask is not None:
        scores = mx.where(mask, scores, mx.finfo(scores.dtype).min)
    shares = mx.softmax(scores, axis=-1, precise=True)
    return drop(shares, dropout, dropout_key) @ value


def rotate(x: mx.array, periods: mx.array, offset: int = 0) -> mx.array:
    """x (mx.array): Queries or keys, `(batch, heads, length, head_dim)`.
    periods (mx.array): `rope_periods` of the config.
    offset (int): The position of the first.
    RETURNS (mx.array): Of the same shape.
    """
    return mx.fast.rope(
        x,
        x.shape[-1],
        traditional=False,  # halves are turned against each other, not neighbours
        base=None,
        scale=1.0,
        offset=offset,
        freqs=periods,
    )


def feed_forward(
    weights: Weights, x: mx.array, config: ModernBertConfig, dropout: Dropout
) -> mx.array:
    """GeGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202): `Wi` holds the input and
    its gate.

    weights (Weights): Of the MLP of a layer.
    x (mx.array): `(total, width)`.
    config (ModernBertConfig): The config.
    dropout (Dropout): The dropout.
    RETURNS (mx.array): `(total, width)`.
    """
    value, gate = mx.split(linear(within(weights, "Wi"), x), 2, axis=-1)
    gated = dropout(geglu(value, gate), config.mlp_dropout)
    return linear(within(weights, "Wo"), gated)


def geglu(value: mx.array, gate: mx.array) -> mx.array:
    """value, gate (mx.array): `(total, intermediate_size)`.
    RETURNS (mx.array): Of the same shape: `gelu(value) * gate`.
    """
    # Not by `mx.compile`, and so not by `mlx.nn.gelu`: what a thread has compiled goes
    # with the thread, by which some releases of MLX end the process
    # (https://github.com/ml-explore/mlx/issues/3619, /4347).
    return value * (1 + mx.erf(value / 2**0.5)) / 2 * gate


def norm(weights: Weights, x: mx.array, config: ModernBertConfig) -> mx.array:
    """weights (Weights): Of a layer norm.
    x (mx.array): `(total, width)`.
    config (ModernBertConfig): The config.
    RETURNS (mx.array): `(total, width)`.
    """
    bias = weights.get("bias")
    return mx.fast.layer_norm(x, weights["weight"], bias, config.norm_eps)


def linear(weights: Weights, x: mx.array) -> mx.array:
    """weights (Weights): Of a linear layer, quantized or not.
    x (mx.array): `(total, n_in)`.
    RETURNS (mx.array): `(total, n_out)`.
    """
    if "scales" in weights:
        group_size, bits = _find_scheme(weights, x.shape[-1])
        output = mx.quantized_matmul(
            x,
            weights["weight"],
            weights["scales"],
            weights["biases"],
            transpose=True,
            group_size=group_size,
            bits=bits,
        )
    else:
        output = x @ weights["weight"].T
    return output + weights["bias"] if "bias" in weights else output


def _find_scheme(weights: Weights, width: int) -> Tuple[int, int]:
    """RETURNS (Tuple[int, int]): The size of a group, and the bits, of a weight of some
    width.
    """
    words, scales = weights["weight"], weights["scales"]
    return width // scales.shape[-1], 32 * words.shape[-1] // width
