"""Packed batches as the graphs of OpenVINO take them.

A graph takes sequences of one length. So that little is padded, a packed batch is cut
into groups of sequences that are about as long as each other.
"""

from dataclasses import dataclass
from typing import Dict, List, Tuple

import numpy as np
import numpy.typing as npt

from ...types import Ints, PackedBatch
from ..blocks import make_block_mask, reach
from ..config import ModernBertConfig
from ..rounding import round_up

Array = npt.NDArray[np.generic]

# The fixed cost of a run of the graph, in wordpieces: every weight is read from memory
# once. Padding a sequence by no more than this is worth it, if it then needs no run of
# its own.
_RUN = 128

# What the length of a run is a multiple of, at least: OpenVINO keeps half a megabyte
# and more for each shape that it has met, of thousands of them.
_STEP = 8

# Sequences share a run up to this many wordpieces, padding included. Products of larger
# matrices are no quicker, and need more memory.
_MOST_SHARED = 1024


@dataclass(frozen=True)
class BlockShape:
    """How the sliding-window layers cut a stream of wordpieces into blocks of queries.

    Each block looks at its own positions and `half_window` more on either side. Cost
    and memory grow with `n_rows * n_keys`, never with the square of a length.

    size (int): Queries of a block.
    half_window (int): Query i sees key j where `|i - j| <= half_window`.
    """

    size: int
    half_window: int

    @classmethod
    def of(cls, config: ModernBertConfig, longest: int) -> "BlockShape":
        """RETURNS (BlockShape): For the window of a config, in sequences of this length
        at most.
        """
        half_window = reach(config.half_window, longest)
        # As long as the window: of the keys that a query is multiplied with, half are
        # its own. Shorter blocks multiply less, but copy each key more often, which is
        # what costs memory. Very short ones are not worth a product.
        return cls(max(2 * half_window, 16), half_window)

    @classmethod
    def shape_of(cls, config: ModernBertConfig) -> Tuple[int, int]:
        """RETURNS (Tuple[int, int]): `size` and `n_keys`, where they are the same for
        sequences of any length; else -1 and -1.
        """
        shortest, any_other = cls.of(config, 1), cls.of(config, config.half_window)
        if shortest != any_other:
            return -1, -1
        return shortest.size, shortest.n_keys

    @property
    def n_keys(self) -> int:
        """RETURNS (int): The keys that a block looks at."""
        return self.size + 2 * self.half_window

    def cut(self, owners: Ints) -> Dict[str, Array]:
        """Cut a stream.

        owners (Ints): `(n_rows,)`, which sequence each row belongs to; -1 for none.
        RETURNS (Dict[str, Array]): The inputs `query_rows`, `key_rows` and `block_mask`
            of a graph. A row beyond the stream is given as some row within it. Like
            rows of no sequence, those beyond the stream see only each other.
        """
        margin = self.half_window
        mask = make_block_mask(owners, self.size, self.half_window, margin)
        first = np.arange(len(mask)) * self.size - margin
        rows = first[:, None] + np.arange(self.n_keys)
        key_rows = np.clip(rows, 0, len(owners) - 1)
        query_rows = key_rows[:, margin : margin + self.size]
        return {
            "query_rows": query_rows.reshape(-1).astype(np.int32),
            "key_rows": key_rows.reshape(-1).astype(np.int32),
            "block_mask": mask[:, None],
        }


def group_by_length(lengths: Ints) -> List[Ints]:
    """Which sequences run together.

    lengths (Ints): `(n_seqs,)`.
    RETURNS (List[Ints]): The indices of each group, each of the sequences in exactly
        one. The first of a group is its longest.
    """
    groups: List[List[int]] = []
    longest = n_shared = 0
    for index in np.argsort(-lengths, kind="stable").tolist():
        n_shared += longest
        if n_shared <= _MOST_SHARED and longest - lengths[index] <= _RUN and groups:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = n_shared = int(lengths[index])
    return [np.array(group) for group in groups]


def make_inputs(
    batch: PackedBatch, group: Ints, config: ModernBertConfig
) -> Dict[str, Array]:
    """What a graph is fed.

    batch (PackedBatch): The batch.
    group (Ints): The sequences of it to run, the longest first.
    config (ModernBertConfig): The encoder's config.
    RETURNS (Dict[str, Array]): By the names of `graph.Inputs`.
    """
    lengths = batch.lengths[group]
    longest = round_up(int(lengths[0]), _STEP)
    positions = np.arange(longest)
    is_wordpiece = positions < lengths[:, None]
    ids = np.zeros(is_wordpiece.shape, np.int64)
    for row, index in enumerate(group):
        start, end = batch.cu_seqlens[index : index + 2]
        ids[row, : end - start] = batch.ids[start:end]
    owners = np.where(is_wordpiece, np.arange(len(group))[:, None], -1).reshape(-1)
    inputs = {
        "ids": ids,
        "is_wordpiece": is_wordpiece[:, None, None],
        **BlockShape.of(config, longest).cut(owners),
    }
    for layer_type in set(config.layer_types):
        rotation = _rotation(positions, config.rope_periods(layer_type))
        inputs[layer_type] = np.tile(rotation, (1, len(group), 1, 1))
    return inputs


def _rotation(positions: Ints, periods: Array) -> Array:
    """The rotary embedding in the half-and-half layout of transformers'
    `ModernBertRotaryEmbedding`, float32.

    RETURNS (Array): `(2, positions, 1, head_dim)`, cosine and sine.
    """
    angles = positions.astype(np.float32)[:, None] * (np.float32(1.0) / periods)
    angles = np.concatenate((angles, angles), axis=-1)[:, None]
    return np.stack((np.cos(angles), np.sin(angles)))
