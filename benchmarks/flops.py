"""The floating-point operations that ModernBERT needs, whoever runs it.

Those of matrix products and attention are counted, a multiplication and an addition as
two; norms, activations and softmax would add less than one in a hundred. What counts is
what the model asks for: an implementation of a sliding layer that multiplies all with
all, and masks most of it away, does more work but gets no credit for it.
"""

from typing import List, Sequence, Tuple

from spacy_modernbert.encoder.config import FULL, ModernBertConfig


def needed_flops(config: ModernBertConfig, lengths: Sequence[int]) -> int:
    """Count what a batch of documents needs.

    config (ModernBertConfig): The encoder.
    lengths (Sequence[int]): The wordpieces of each document.
    RETURNS (int): Floating-point operations.
    """
    total = sum(lengths)
    per_layer = sum(2 * total * n_in * n_out for n_in, n_out in projections(config))
    n_layers = config.num_hidden_layers
    n_full = sum(layer_type == FULL for layer_type in config.layer_types)
    # A query times a key, and a weight times a value: each `width` wide over all heads.
    per_pair = 2 * 2 * config.hidden_size
    full = sum(length * length for length in lengths)
    sliding = sum(pairs_in_window(length, config.half_window) for length in lengths)
    pairs = n_full * full + (n_layers - n_full) * sliding
    return n_layers * per_layer + per_pair * pairs


def projections(config: ModernBertConfig) -> List[Tuple[int, int]]:
    """RETURNS (List[Tuple[int, int]]): Width in and out of each projection of a layer:
    Wqkv, Wo, Wi and the MLP's Wo.
    """
    width, inner = config.hidden_size, config.intermediate_size
    return [(width, 3 * width), (width, width), (width, 2 * inner), (inner, width)]


def pairs_in_window(length: int, half_window: int) -> int:
    """RETURNS (int): How many pairs (i, j) of positions there are with
    `|i - j| <= half_window`. At its edges a document has fewer.
    """
    reach = min(half_window, length - 1)
    # To the left of position i are min(i, reach) of them.
    to_the_left = reach * (reach + 1) // 2 + (length - 1 - reach) * reach
    return length + 2 * to_the_left
