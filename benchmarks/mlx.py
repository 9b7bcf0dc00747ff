"""What the MLX encoder saves, and on a Mac how fast it is.

    python -m benchmarks.mlx             # a small shape: anywhere
    python -m benchmarks.mlx --base      # the shape of ModernBERT-base: on a Mac

Random weights. Each pair is timed in turns in one process, medians. Prints Markdown,
and writes JSON with the machine and the versions. MLX's Linux wheel multiplies matrices
at 2 GFLOP/s: there, only the ratios tell anything.
"""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Mapping, Sequence

import mlx.core as mx
import numpy as np
import typer
from wasabi import msg

from spacy_modernbert.encoder.availability import find_memory, look_for
from spacy_modernbert.encoder.config import FULL, SLIDING, ModernBertConfig
from spacy_modernbert.encoder.mlx import model as mlx_model
from spacy_modernbert.encoder.mlx.encoder import MLXEncoder
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

from .figures import output_option, write_figures
from .markdown import make_table

SMALL = ModernBertConfig.from_dict(
    {
        "model_type": "modernbert",
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 1,
        "num_hidden_layers": 3,
        "pad_token_id": 3,
    }
)
LENGTHS = (512, 1024, 2048, 4096)
RAGGED = (40, 60, 80, 100, 120, 160, 265, 512)  # 8 documents, 1,337 of 4,096 padded


def main(
    base: bool = False,
    repeats: int = 3,
    output: Path = output_option("mlx.json"),  # noqa: B008
) -> None:
    """Measure, print Markdown and write the results."""
    config = ModernBertConfig() if base else SMALL
    on_gpu = mx.default_device().type == mx.gpu
    results: Dict[str, Any] = {
        "device": look_for("mlx").device,
        "memory": find_memory("mlx"),
        "shape": {
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "repeats": repeats,
        },
        "saved": [
            measure_windows(config, repeats),
            measure_packing(config, repeats),
        ],
        "peak_mb_of_sliding_layers": measure_memory(config),
    }
    if base or on_gpu:
        results["wordpieces_per_second"] = measure_speed(config, repeats)
    command = f"python -m benchmarks.mlx --repeats {repeats}{' --base' * base}"
    write_figures(output, command, **results)
    _print_table(results["saved"])
    _print_table([results["peak_mb_of_sliding_layers"]])
    _print_table(results.get("wordpieces_per_second", []))
    msg.good(f"Wrote {output}")


def measure_windows(config: ModernBertConfig, repeats: int) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Sliding-window layers, by blocks and with a mask of
    length x length.
    """
    length = 2048
    encoder = _make_encoder(_only_sliding(config))
    batch = _pack([length])
    dense = _DenseAttention([length], length, encoder.config)
    return _compare(
        f"sliding-window layers at {length}: blocks / dense mask",
        lambda: encoder.encode(batch),
        lambda: dense.encode(encoder, batch.ids),
        repeats,
    )


def measure_packing(config: ModernBertConfig, repeats: int) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): Documents of all lengths, packed and padded; the peer
    has dense masks in all layers.
    """
    encoder = _make_encoder(config)
    batch = _pack(RAGGED)
    longest = max(RAGGED)
    padded = np.full((len(RAGGED), longest), 3)
    for row, start, length in zip(padded, batch.cu_seqlens, RAGGED, strict=False):
        row[:length] = batch.ids[start : start + length]
    dense = _DenseAttention(RAGGED, longest, config)
    is_real = (np.arange(longest) < np.array(RAGGED)[:, None]).ravel()
    return _compare(
        f"{batch.total:,} wordpieces in {len(RAGGED)} documents: packed / padded dense",
        lambda: encoder.encode(batch),
        lambda: dense.encode(encoder, padded.ravel())[is_real],
        repeats,
    )


def measure_memory(config: ModernBertConfig) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): Of sliding-window layers, the peak of a pass in MB
    beyond the weights, by length.
    """
    encoder = _make_encoder(_only_sliding(config))
    peaks = {}
    for length in LENGTHS:
        batch = _pack([length])
        encoder.encode(batch)
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        encoder.encode(batch)
        peaks[f"{length:,}"] = (mx.get_peak_memory() - before) / 1e6
    return peaks


def measure_speed(config: ModernBertConfig, repeats: int) -> List[Dict[str, Any]]:
    """RETURNS (List[Dict[str, Any]]): Wordpieces a second, by precision and length."""
    tensors = init_tensors(config, 0)
    kinds: List[Dict[str, Any]] = [
        {"precision": precision} for precision in ("float32", "bfloat16", "float16")
    ]
    kinds += [
        {"precision": "float16", "quantization": {"bits": bits, "group_size": 64}}
        for bits in (8, 4)
    ]
    rows = []
    for kind in kinds:
        encoder = MLXEncoder(config, tensors, **kind)
        bits = kind.get("quantization", {}).get("bits", "-")
        row = {"precision": kind["precision"], "bits": bits}
        for length in (128, 512, 2048, 8192):
            batch = _pack([length] * (8192 // length))
            (seconds,) = _time_in_turns([partial(encoder.encode, batch)], repeats)
            row[f"{length:,}"] = batch.total / seconds
        rows.append(row)
    return rows


class _DenseAttention:
    """The other way: sequences padded to one length, and a mask of length x length."""

    def __init__(
        self, lengths: Sequence[int], padded: int, config: ModernBertConfig
    ) -> None:
        positions = np.arange(padded)
        is_key = (positions < np.array(lengths)[:, None])[:, None, None, :]
        distance = np.abs(positions[:, None] - positions)
        is_near = distance <= config.half_window
        # A padded row has to see something.
        itself = distance == 0
        self.masks = {FULL: is_key | itself, SLIDING: is_key & is_near | itself}
        self.masks = {kind: mx.array(mask) for kind, mask in self.masks.items()}
        self.shape = len(lengths), padded

    def encode(self, encoder: MLXEncoder, ids: np.ndarray) -> np.ndarray:
        """RETURNS (np.ndarray): The hidden states of the padded wordpieces."""
        ours = dict(mlx_model.ATTENTION)
        for kind in ours:
            mlx_model.ATTENTION[kind] = partial(self._attend, kind)
        try:
            cu_seqlens = np.array([0, ids.size], np.int32)
            return encoder.encode(PackedBatch(ids, cu_seqlens))
        finally:
            mlx_model.ATTENTION.update(ours)

    def _attend(
        self,
        kind: str,
        query: mx.array,
        key: mx.array,
        value: mx.array,
        plan: mlx_model.AttentionPlan,
        config: ModernBertConfig,
        dropout: mlx_model.Dropout,
    ) -> mx.array:
        shape = (*self.shape, *query.shape[1:])
        q, k, v = (x.reshape(shape).swapaxes(1, 2) for x in (query, key, value))
        periods = mx.array(config.rope_periods(kind))
        q, k = (mlx_model.rotate(x, periods) for x in (q, k))
        output = mx.fast.scaled_dot_product_attention(
            q, k, v, scale=config.head_dim**-0.5, mask=self.masks[kind]
        )
        return output.swapaxes(1, 2).reshape(query.shape)


def _compare(
    what: str,
    ours: Callable[[], np.ndarray],
    peer: Callable[[], np.ndarray],
    repeats: int,
) -> Dict[str, Any]:
    error = np.abs(ours() - peer()).max()
    if not error <= 1e-3:  # nor NaN
        raise SystemExit(f"{what}: off by {error}")
    ours_s, peer_s = _time_in_turns([ours, peer], repeats)
    return {"what": what, "ours_s": ours_s, "peer_s": peer_s, "ratio": peer_s / ours_s}


def _time_in_turns(runs: Sequence[Callable[[], Any]], repeats: int) -> List[float]:
    """RETURNS (List[float]): Seconds of each, the median."""
    times: List[List[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if turn > 0:  # the first is for warming up
                taken.append(time.perf_counter() - start)
    return [median(taken) for taken in times]


def _make_encoder(config: ModernBertConfig) -> MLXEncoder:
    return MLXEncoder(config, init_tensors(config, 0), precision="float32")


def _only_sliding(config: ModernBertConfig) -> ModernBertConfig:
    return replace(config, layer_types=(SLIDING,) * config.num_hidden_layers)


def _pack(lengths: Sequence[int]) -> PackedBatch:
    ids = np.random.default_rng(0).integers(4, SMALL.vocab_size, sum(lengths))
    return PackedBatch(ids, np.cumsum([0, *lengths]).astype(np.int32))


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        cells = [
            [f"{v:,.3g}" if isinstance(v, float) else str(v) for v in row.values()]
            for row in rows
        ]
        print("", *make_table(list(rows[0]), cells), sep="\n")


if __name__ == "__main__":
    typer.run(main)
