import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.flops import needed_flops, pairs_in_window
from spacy_modernbert.encoder.config import FULL, ModernBertConfig

CONFIG = ModernBertConfig(
    vocab_size=60,
    hidden_size=8,
    intermediate_size=6,
    num_hidden_layers=4,
    num_attention_heads=2,
    layer_types=("full_attention", *["sliding_attention"] * 2, "full_attention"),
    local_attention=6,
    pad_token_id=None,
)


def count_pairs(length: int, half_window: int) -> int:
    positions = np.arange(length)
    return int((np.abs(positions[:, None] - positions) <= half_window).sum())


@given(st.integers(1, 40), st.integers(0, 45))
def test_pairs_are_counted_exactly_at_the_edges(length: int, half_window: int) -> None:
    assert pairs_in_window(length, half_window) == count_pairs(length, half_window)


@pytest.mark.parametrize("lengths", [[1], [7], [20, 3, 5]])
def test_flops_are_those_of_every_product(lengths: list) -> None:
    """Counted one by one: each number of an output is a sum of products."""
    width, inner = CONFIG.hidden_size, CONFIG.intermediate_size
    head_dim = CONFIG.head_dim
    flops = 0
    for length in lengths:
        for layer_type in CONFIG.layer_types:
            for n_in, n_out in [
                (width, 3 * width),
                (width, width),
                (width, 2 * inner),
                (inner, width),
            ]:
                flops += length * n_out * (2 * n_in)
            reach = length if layer_type == FULL else CONFIG.half_window
            for _ in range(CONFIG.num_attention_heads):
                pairs = count_pairs(length, reach)
                flops += pairs * 2 * head_dim  # a query times a key
                flops += pairs * 2 * head_dim  # a weight times a value
    assert needed_flops(CONFIG, lengths) == flops
