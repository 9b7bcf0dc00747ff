"""What sliding-window layers see, block by block."""

from typing import Tuple

import numpy as np
import numpy.typing as npt

from ..types import Ints, PackedBatch

# Half the window of the published models.
_USUAL = 64


def block_size(half_window: int) -> int:
    """RETURNS (int): How many queries a block best has.

    As many as half the window: of the keys that a query is multiplied with, two in
    three are then within its window. Longer blocks waste more, shorter ones have more
    overhead. Windows of a few wordpieces would make blocks too small to be worth a
    product.
    """
    return max(half_window, 16)


def reach(half_window: int, longest: int) -> int:
    """How far a query has to look to see all that it may, in sequences of some lengths.

    half_window (int): Query i sees key j where `|i - j| <= half_window`.
    longest (int): The length of the longest of the sequences.
    RETURNS (int): `half_window`; or less, if all sequences are shorter than that: then
        a power of two that covers the longest, and no less than the half window of the
        published models, so that there are few sizes of blocks.
    """
    return min(half_window, max(_USUAL, 1 << (longest - 1).bit_length()))


def mask_blocks(
    batch: PackedBatch, half_window: int
) -> Tuple[int, npt.NDArray[np.bool_]]:
    """Cut a packed stream into blocks, each of which looks at itself and at a whole
    block on either side.

    batch (PackedBatch): The stream.
    half_window (int): Query i sees key j where `|i - j| <= half_window`.
    RETURNS (Tuple[int, NDArray[bool]]): The queries of a block, and the mask: see
        `make_block_mask`.
    """
    half_window = reach(half_window, int(batch.lengths.max(initial=1)))
    size = block_size(half_window)
    return size, make_block_mask(batch.owners, size, half_window, margin=size)


def make_block_mask(
    owners: Ints, size: int, half_window: int, margin: int
) -> npt.NDArray[np.bool_]:
    """Cut a stream of sequences into blocks of queries, each of which looks at its own
    positions and at some more on either side.

    owners (Ints): `(total,)`, which sequence each position belongs to; -1 for none.
    size (int): Queries of a block.
    half_window (int): Query i sees key j of its sequence where `|i - j| <=
        half_window`.
    margin (int): So many more positions on either side, `half_window` at least.
    RETURNS (NDArray[bool]): `(n_blocks, size, margin + size + margin)`: which queries
        of a block see which keys. Positions outside the stream belong to none, and see
        each other.
    """
    n_blocks = -(-len(owners) // size)
    padded = np.full(margin + n_blocks * size + margin, -1, np.int32)
    padded[margin : margin + len(owners)] = owners
    of_keys = np.lib.stride_tricks.sliding_window_view(padded, size + 2 * margin)
    of_keys = of_keys[::size]
    of_queries = of_keys[:, margin : margin + size]
    distance = np.arange(size + 2 * margin) - np.arange(margin, margin + size)[:, None]
    is_near = np.abs(distance) <= half_window
    return (of_queries[:, :, None] == of_keys[:, None, :]) & is_near
