"""The tensors that a config asks for, and fresh ones to start training from."""

import math
from typing import Dict, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..types import Floats
from .config import FULL, ModernBertConfig
from .tensor_files import OnDemand, Shape

# A model with a head keeps the encoder under this prefix.
HEAD_PREFIX = "model."

# Numbers drawn at a time, so that drawing a tensor costs no second one.
_CHUNK = 1 << 20

# The score, before the softmax, that a wordpiece gives another of its kind where keys
# start as queries: high enough for nearly all of the attention among thousands.
_SCORE = 16.0
# What queries and keys that do not match are multiplied by.
_SMALL = 0.25


def expected_shapes(config: ModernBertConfig) -> Dict[str, Shape]:
    """The encoder's tensors.

    config (ModernBertConfig): The config.
    RETURNS (Dict[str, Shape]): The shape of each tensor, by the name that transformers'
        `ModernBertModel` gives it, in the order of the layers. Weights of projections
        are `(out, in)`.
    """
    width = config.hidden_size
    shapes: Dict[str, Shape] = {
        "embeddings.tok_embeddings.weight": (config.vocab_size, width)
    }

    def add_norm(name: str) -> None:
        shapes[f"{name}.weight"] = (width,)
        if config.norm_bias:
            shapes[f"{name}.bias"] = (width,)

    def add_linear(name: str, n_out: int, n_in: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (n_out, n_in)
        if bias:
            shapes[f"{name}.bias"] = (n_out,)

    add_norm("embeddings.norm")
    for i in range(config.num_hidden_layers):
        layer = f"layers.{i}"
        if i > 0:  # the embeddings' norm is that of the first layer
            add_norm(f"{layer}.attn_norm")
        add_linear(f"{layer}.attn.Wqkv", 3 * width, width, config.attention_bias)
        add_linear(f"{layer}.attn.Wo", width, width, config.attention_bias)
        add_norm(f"{layer}.mlp_norm")
        inner = config.intermediate_size
        add_linear(f"{layer}.mlp.Wi", 2 * inner, width, config.mlp_bias)
        add_linear(f"{layer}.mlp.Wo", width, inner, config.mlp_bias)
    add_norm("final_norm")
    return shapes


def count_weights(config: ModernBertConfig) -> int:
    """RETURNS (int): How many numbers the tensors of an encoder are."""
    return sum(map(math.prod, expected_shapes(config).values()))


def init_tensors(config: ModernBertConfig, seed: int) -> Mapping[str, Floats]:
    """Fresh weights, as published.

    The recipe is that of transformers' `ModernBertPreTrainedModel._init_weights`:
    a normal of mean 0 and standard deviation `initializer_range`, cut off at
    `initializer_cutoff_factor` standard deviations. For the projections that end a
    residual branch (`Wo`), the deviation is
    `initializer_range / sqrt(2 * num_hidden_layers)`. Norms are 1, biases are 0.

    config (ModernBertConfig): The config.
    seed (int): The seed, not negative.
    RETURNS (Mapping[str, Floats]): The tensors, by the names of `expected_shapes`.
        Each is drawn when it is asked for, and is the same on every access.
    """
    shapes = expected_shapes(config)
    # A random stream for each tensor: the order of the accesses does not matter.
    streams = {name: i for i, name in enumerate(shapes)}
    return OnDemand(
        shapes, lambda name: _draw(name, shapes[name], config, [seed, streams[name]])
    )


def with_matching_keys(
    tensors: Mapping[str, Floats], config: ModernBertConfig
) -> Mapping[str, Floats]:
    """Let the full-attention layers start with keys that equal the queries, so that a
    wordpiece looks at its like, at any distance, from the first step on.

    That is how it finds what is said elsewhere about the same name. An encoder that
    starts from nothing, with a small corpus, takes long to learn this by itself.
    Trained ones do it: "Mimetic Initialization of Self-Attention Layers", Trockman and
    Kolter 2023, https://arxiv.org/abs/2305.09828.

    Of the pairs that the rotary embedding turns, only those that hardly turn within
    thousands of wordpieces are made to match. The others would match at no distance but
    0, where a wordpiece sees itself: they start near zero. The first layer is left as
    it is, since the like of a bare wordpiece tells it nothing.

    tensors (Mapping[str, Floats]): Fresh weights.
    config (ModernBertConfig): The config.
    RETURNS (Mapping[str, Floats]): The weights, read from `tensors` when asked for.
    """
    names = {
        f"layers.{i}.attn.Wqkv.weight"
        for i, layer_type in enumerate(config.layer_types)
        if i > 0 and layer_type == FULL
    }

    def make(name: str) -> Floats:
        return _match(tensors[name], config) if name in names else tensors[name]

    return OnDemand(tensors, make)


def _match(projection: Floats, config: ModernBertConfig) -> Floats:
    query, key, value = np.split(projection, 3)
    is_slow = np.tile(_turns_slowly(config), config.num_attention_heads)
    slow = is_slow[:, None]
    # After the norm, the numbers of a wordpiece have a mean square of 1. The sum of the
    # squares of its queries is then, on average, that of the weights.
    square = (query[is_slow] ** 2).sum() / config.num_attention_heads
    gain = (_SCORE * config.head_dim**0.5 / square) ** 0.5
    matching = np.where(slow, gain * query, _SMALL * query)
    return np.concatenate([matching, np.where(slow, matching, _SMALL * key), value])


def _turns_slowly(config: ModernBertConfig) -> npt.NDArray[np.bool_]:
    """RETURNS (npt.NDArray[np.bool_]): `(head_dim,)`, in the layout of `rope`: true for
    the pairs that turn by a radian at most over a quarter of the positions; for the
    slowest, if that is none.
    """
    periods = config.rope_periods(FULL)
    slow = periods >= min(config.max_position_embeddings / 4, periods[-1])
    return np.tile(slow, 2)


def _draw(
    name: str, shape: Shape, config: ModernBertConfig, seed: Sequence[int]
) -> Floats:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    std = config.initializer_range
    if name.endswith(".Wo.weight"):
        std /= math.sqrt(2 * config.num_hidden_layers)
    rng = np.random.default_rng(seed)
    return _truncated_normal(rng, shape, std, config.initializer_cutoff_factor)


def _truncated_normal(
    rng: np.random.Generator, shape: Shape, std: float, cutoff: float
) -> Floats:
    drawn = np.empty(shape, np.float32)
    flat = drawn.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        rng.standard_normal(dtype=np.float32, out=part)
        # Draw again whatever falls outside, until nothing does.
        outside = np.flatnonzero(np.abs(part) > cutoff)
        while outside.size:
            part[outside] = rng.standard_normal(outside.size, np.float32)
            outside = outside[np.abs(part[outside]) > cutoff]
    drawn *= np.float32(std)
    return drawn
