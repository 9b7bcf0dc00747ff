"""What stands between the matrix products of a layer, each as one kernel in Triton
(Tillet et al. 2019, https://doi.org/10.1145/3315508.3329973), to predict with.

Each reads its arrays once and writes them once. In torch's own operations the same
takes four times as many passes over the memory of the GPU, which is what a layer then
spends half its time on.

To be imported only where Triton is installed: see `kernels.why_no_kernels`.
"""

from typing import Optional

import torch
import triton
import triton.language as tl
from torch import Tensor

from .rope import Rotation

# What a program of GeGLU works on.
_GEGLU_ROWS, _GEGLU_COLUMNS = 4, 128

# What a program of attention works on: so many queries, by so many keys at a time.
_QUERIES, _KEYS, _WARPS = 64, 32, 4

# Softmax is made of powers of 2, which the GPU has an instruction for.
_LOG2_E = 1.4426950408889634


def add_and_norm(
    x: Tensor, branch: Tensor, norm: torch.nn.LayerNorm, dtype: torch.dtype
) -> Tensor:
    """Add a branch to the residual stream, in place, and norm the sum.

    x (Tensor): `(total, width)` float32. Overwritten with `x + branch`.
    branch (Tensor): `(total, width)`, of any type.
    norm (torch.nn.LayerNorm): Weights `(width,)`, and bias, if it has one.
    dtype (torch.dtype): Of the result.
    RETURNS (Tensor): `(total, width)`: the sum, normed in float32 and rounded once.
    """
    total, width = x.shape
    normed = torch.empty_like(x, dtype=dtype)
    bias: Optional[Tensor] = norm.bias
    _add_and_norm[(total,)](
        x,
        branch.contiguous(),
        norm.weight,
        norm.weight if bias is None else bias,
        normed,
        width,
        norm.eps,
        HAS_BIAS=bias is not None,
        BLOCK=triton.next_power_of_2(width),
    )
    return normed


def rotate_(qkv: Tensor, rotation: Rotation) -> Tensor:
    """Apply the rotary embedding to queries and keys, in place.

    qkv (Tensor): `(total, 3, heads, head_dim)`, contiguous.
    rotation (Rotation): Cosine and sine of the positions.
    RETURNS (Tensor): `qkv`. Each number is rounded once.
    """
    cos, sin = rotation
    total, _, n_heads, head_dim = qkv.shape
    _rotate[(total,)](
        qkv,
        cos,
        sin,
        qkv.stride(0),
        2 * n_heads,
        head_dim // 2,
        HEADS=triton.next_power_of_2(2 * n_heads),
        HALF=triton.next_power_of_2(head_dim // 2),
    )
    return qkv


def geglu(x: Tensor) -> Tensor:
    """Apply GeGLU.

    x (Tensor): Values and their gates, side by side. `(total, 2 * inner)`, contiguous.
    RETURNS (Tensor): `(total, inner)`: `gelu(value) * gate`, rounded once.
    """
    total, inner = x.shape[0], x.shape[1] // 2
    gated = torch.empty((total, inner), dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(total, _GEGLU_ROWS), triton.cdiv(inner, _GEGLU_COLUMNS))
    _geglu[grid](x, gated, total, inner, ROWS=_GEGLU_ROWS, COLUMNS=_GEGLU_COLUMNS)
    return gated


def attend_within_window(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, half_window: int
) -> Tensor:
    """Attention in which every wordpiece sees those of its sequence that are at most
    `half_window` away. Only blocks of the packed stream that may hold such wordpieces
    are multiplied.

    query, key, value (Tensor): `(total, heads, head_dim)`, half precision, each head
        contiguous and right after the one before.
    bounds (Tensor): `(2, total)` int32: for each wordpiece, where its sequence starts
        and ends in the stream.
    half_window (int): Half the window.
    RETURNS (Tensor): `(total, heads, head_dim)`.
    """
    total, n_heads, head_dim = query.shape
    attended = torch.empty_like(query, memory_format=torch.contiguous_format)
    _attend_within_window[(triton.cdiv(total, _QUERIES), n_heads)](
        query,
        key,
        value,
        bounds,
        attended,
        total,
        half_window,
        query.stride(0),
        key.stride(0),
        value.stride(0),
        attended.stride(0),
        _LOG2_E * head_dim**-0.5,
        head_dim,
        QUERIES=_QUERIES,
        KEYS=_KEYS,
        N_BLOCKS=triton.cdiv(_QUERIES + 2 * half_window, _KEYS),
        DIMS=max(16, triton.next_power_of_2(head_dim)),
        num_warps=_WARPS,
    )
    return attended


@triton.jit
def _add_and_norm(
    x_ptr,
    branch_ptr,
    weight_ptr,
    bias_ptr,
    normed_ptr,
    width,
    eps,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(x_ptr + start + columns, mask=inside, other=0.0)
    x += tl.load(branch_ptr + start + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(x_ptr + start + columns, x, mask=inside)
    centred = tl.where(inside, x - tl.sum(x, axis=0) / width, 0.0)
    variance = tl.sum(centred * centred, axis=0) / width
    normed = centred * tl.rsqrt(variance + eps)
    normed *= tl.load(weight_ptr + columns, mask=inside, other=0.0)
    if HAS_BIAS:
        normed += tl.load(bias_ptr + columns, mask=inside, other=0.0)
    normed = normed.to(normed_ptr.dtype.element_ty)
    tl.store(normed_ptr + start + columns, normed, mask=inside)


@triton.jit
def _rotate(
    qkv_ptr,
    cos_ptr,
    sin_ptr,
    row_stride,
    n_heads,
    half,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, HALF)[None, :]
    inside = (head < n_heads) & (column < half)
    angles = row * half + column
    cos = tl.load(cos_ptr + angles, mask=column < half, other=0.0)
    sin = tl.load(sin_ptr + angles, mask=column < half, other=0.0)
    first_ptr = qkv_ptr + row * row_stride + head * (2 * half) + column
    second_ptr = first_ptr + half
    first = tl.load(first_ptr, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(second_ptr, mask=inside, other=0.0).to(tl.float32)
    dtype = qkv_ptr.dtype.element_ty
    tl.store(first_ptr, (first * cos - second * sin).to(dtype), mask=inside)
    tl.store(second_ptr, (second * cos + first * sin).to(dtype), mask=inside)


@triton.jit
def _geglu(x_ptr, gated_ptr, total, inner, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < total) & (column < inner)
    value_ptr = x_ptr + row * 2 * inner + column
    value = tl.load(value_ptr, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(value_ptr + inner, mask=inside, other=0.0).to(tl.float32)
    # gelu(value), by the error function: 1 / sqrt(2) is 0.7071...
    gelu = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
    gated = (gelu * gate).to(gated_ptr.dtype.element_ty)
    tl.store(gated_ptr + row * inner + column, gated, mask=inside)


@triton.jit
def _attend_within_window(
    query_ptr,
    key_ptr,
    value_ptr,
    bounds_ptr,
    attended_ptr,
    total,
    half_window,
    query_stride,
    key_stride,
    value_stride,
    attended_stride,
    scale,
    head_dim,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    N_BLOCKS: tl.constexpr,
    DIMS: tl.constexpr,
):
    first_query = tl.program_id(0) * QUERIES
    column = tl.program_id(1) * head_dim + tl.arange(0, DIMS)[None, :]
    has_column = tl.arange(0, DIMS)[None, :] < head_dim
    rows = first_query + tl.arange(0, QUERIES)
    has_row = rows < total
    nearest = tl.load(bounds_ptr + rows, mask=has_row, other=0)
    nearest = tl.maximum(nearest, rows - half_window)[:, None]
    farthest = tl.load(bounds_ptr + total + rows, mask=has_row, other=0)
    farthest = tl.minimum(farthest, rows + half_window + 1)[:, None]
    inside = has_row[:, None] & has_column
    offsets = rows.to(tl.int64)[:, None]
    query = tl.load(query_ptr + offsets * query_stride + column, mask=inside, other=0.0)
    # Softmax as it goes (Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867),
    # in powers of 2. What is not seen counts next to nothing: a row that has seen
    # nothing yet forgets it with the first key that it sees, at the latest its own.
    largest = tl.full([QUERIES], -1e30, tl.float32)
    summed = tl.zeros([QUERIES], tl.float32)
    attended = tl.zeros([QUERIES, DIMS], tl.float32)
    for block in tl.static_range(N_BLOCKS):
        keys = first_query - half_window + block * KEYS + tl.arange(0, KEYS)
        has_key = (keys >= 0) & (keys < total)
        inside_keys = has_key[:, None] & has_column
        offsets_of_keys = keys.to(tl.int64)[:, None]
        key = tl.load(
            key_ptr + offsets_of_keys * key_stride + column, mask=inside_keys, other=0.0
        )
        scores = tl.dot(query, tl.trans(key)) * scale
        sees = (keys[None, :] >= nearest) & (keys[None, :] < farthest)
        scores = tl.where(sees, scores, -1e30)
        new_largest = tl.maximum(largest, tl.max(scores, axis=1))
        weights = tl.exp2(scores - new_largest[:, None])
        shrink = tl.exp2(largest - new_largest)
        summed = summed * shrink + tl.sum(weights, axis=1)
        value = tl.load(
            value_ptr + offsets_of_keys * value_stride + column,
            mask=inside_keys,
            other=0.0,
        )
        attended = attended * shrink[:, None]
        attended = tl.dot(weights.to(value.dtype), value, attended)
        largest = new_largest
    attended = (attended / summed[:, None]).to(attended_ptr.dtype.element_ty)
    tl.store(attended_ptr + offsets * attended_stride + column, attended, mask=inside)
