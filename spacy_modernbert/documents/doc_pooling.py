"""Wordpiece vectors → one vector for each Doc, whatever its length.

Every row of the encoder's output belongs to one Doc, and has a weight in its vector;
the weights of a Doc sum to 1.

- `mean`: the mean over the Doc as if it had been seen whole. Each wordpiece counts
  once, by the window in which it stands farthest from a cut; `[CLS]` counts as it is in
  the first window, `[SEP]` as it is in the last. For a Doc of one window, that is the
  mean over all rows, as transformers and sentence-transformers have it.
- `cls`: the `[CLS]` of every window, weighted by the number of wordpieces for which
  that window is used. For a Doc of one window, that is its `[CLS]`.
"""

from dataclasses import dataclass
from typing import List, Sequence

import numpy as np
import numpy.typing as npt

from ..types import Floats, Ints, PackedBatch, TokenRows, lay_ranges
from .alignment import Alignment
from .windows import Window, token_owners

Counts = npt.NDArray[np.float64]

# So many rows of a window have a mean of their own: few results, each of few enough
# rows for a GPU to make all of them at a time, and for float32 to add them up.
_BLOCK = 64


@dataclass(frozen=True)
class PassPooling:
    """What the rows of a pass contribute to vectors of Docs: means of some of them.

    rows (TokenRows): The rows of each mean, counted from the start of the pass.
    shares (Floats): `(n_means,)` float32, the weight of each.
    docs (Ints): `(n_means,)` rising, the Doc of each.
    """

    rows: TokenRows
    shares: Floats
    docs: Ints

    def add(self, means: Floats, doc_vectors: Floats) -> None:
        """Add to the vectors what the pass contributes.

        means (Floats): `(n_means, width)` float32.
        doc_vectors (Floats): `(n_docs, width)`. Changed.
        """
        firsts = np.flatnonzero(np.diff(self.docs, prepend=-1))
        sums = np.add.reduceat(self.shares[:, None] * means, firsts)
        doc_vectors[self.docs[firsts]] += sums


@dataclass(frozen=True)
class DocPooling:
    """How the rows of a packed encoder output make vectors of Docs.

    weights (Floats): `(total,)` float32, the weight of each row.
    bounds (Ints): `(n_docs + 1,)` int64: the rows of Doc `i` are
        `[bounds[i], bounds[i + 1])`. A Doc without rows has a vector of zeros.

    Invariants: `bounds` rises from 0 to `total`, the weights of a Doc with rows sum to
    1, and in a window, those that are not 0 are the same.
    """

    weights: Floats
    bounds: Ints

    @property
    def n_docs(self) -> int:
        """RETURNS (int): The number of Docs."""
        return int(self.bounds.size) - 1

    def within(self, batch: PackedBatch, start: int) -> PassPooling:
        """Find what a part of the output contributes.

        batch (PackedBatch): What it was made of: whole windows, at least one.
        start (int): The first of its rows.
        RETURNS (PassPooling): Its part.
        """
        n_blocks = -(-batch.lengths // _BLOCK)
        blocks = lay_ranges(np.zeros_like(n_blocks), n_blocks)
        firsts = np.repeat(batch.cu_seqlens[:-1], n_blocks) + _BLOCK * blocks
        weights = self.weights[start : start + batch.total]
        counts = np.add.reduceat((weights > 0).astype(np.int32), firsts)
        return PassPooling(
            TokenRows(np.flatnonzero(weights).astype(np.int32), counts),
            np.add.reduceat(weights, firsts),
            np.searchsorted(self.bounds, start + firsts, side="right") - 1,
        )


def plan_doc_pooling(
    windows: Sequence[List[Window]],
    window_lengths: Ints,
    n_prefix: int,
    pooling: str,
) -> DocPooling:
    """Give each row of the encoder's output its weight.

    windows (Sequence[List[Window]]): The windows of each Doc.
    window_lengths (Ints): `(n_windows,)` the rows of each window, those of all Docs in
        order: 0 for one that is not encoded.
    n_prefix (int): The special wordpieces before those of a window.
    pooling (str): "cls" or "mean".
    RETURNS (DocPooling): The weights.
    """
    ends = np.concatenate([[0], np.cumsum(window_lengths, dtype=np.int64)])
    weights = np.zeros(int(ends[-1]), np.float32)
    bounds = [0]
    first = 0
    for doc_windows in windows:
        last = first + len(doc_windows)
        rows = slice(int(ends[first]), int(ends[last]))
        if rows.start < rows.stop:
            lengths = np.asarray(window_lengths[first:last])
            own = own_rows(doc_windows, lengths, n_prefix)
            if pooling == "cls":
                counted = _first_rows(own, lengths)
            else:
                counted = with_special(own, doc_windows, lengths, n_prefix)
            weights[rows] = counted / counted.sum()
        bounds.append(rows.stop)
        first = last
    return DocPooling(weights, np.array(bounds, np.int64))


def own_rows(windows: Sequence[Window], lengths: Ints, n_prefix: int) -> Counts:
    """Which rows of a Doc stand for its wordpieces: at most one row for each.

    windows (Sequence[Window]): Its windows.
    lengths (Ints): `(n_windows,)` the rows of each.
    n_prefix (int): The special wordpieces before those of a window.
    RETURNS (Counts): `(n_rows,)` 1 for a row that stands for a wordpiece, else 0.
    """
    own = np.zeros(int(lengths.sum()))
    # Windows are chosen for wordpieces as they are for tokens.
    pieces = np.arange(max(window.piece_end for window in windows) + 1)
    owners = token_owners(
        Alignment(pieces[:-1], pieces[1:]),
        [
            Window(w.piece_start, w.piece_end, w.piece_start, w.piece_end)
            for w in windows
        ],
    )
    starts = _starts(lengths)
    for i in np.flatnonzero(lengths).tolist():
        window, row = windows[i], int(starts[i]) + n_prefix
        own[row : row + window.n_pieces] = (
            owners[window.piece_start : window.piece_end] == i
        )
    return own


def with_special(
    own: Counts, windows: Sequence[Window], lengths: Ints, n_prefix: int
) -> Counts:
    """Add the special wordpieces before the first window and after the last.

    own (Counts): `(n_rows,)` what `own_rows` gives for the other arguments.
    RETURNS (Counts): `(n_rows,)` the same with 1 for these wordpieces as well.
    """
    counted = own.copy()
    starts = _starts(lengths)
    encoded = np.flatnonzero(lengths)
    first, last = int(encoded[0]), int(encoded[-1])
    counted[starts[first] : starts[first] + n_prefix] = 1
    after = int(starts[last]) + n_prefix + windows[last].n_pieces
    counted[after : starts[last] + lengths[last]] = 1
    return counted


def _first_rows(own: Counts, lengths: Ints) -> Counts:
    """`(n_rows,)` all that each window counts for, given to its first row."""
    encoded = _starts(lengths)[lengths > 0]
    counted = np.zeros_like(own)
    counted[encoded] = np.add.reduceat(own, encoded)
    return counted


def _starts(lengths: Ints) -> Ints:
    """`(n_windows,)` the first row of each window."""
    return np.cumsum(lengths) - lengths
