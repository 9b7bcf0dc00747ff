"""Wordpiece vectors → the rows of each spaCy token, and the backward pass.

How a token's rows become one vector (their mean, by default) is up to a layer. This
module only finds which rows they are.
"""

from typing import Sequence

import numpy as np

from ..types import Floats, Ints, TokenRows, lay_ranges
from .alignment import Alignment
from .windows import Window


def token_rows(
    alignment: Alignment,
    windows: Sequence[Window],
    owners: Ints,
    window_offsets: Ints,
) -> TokenRows:
    """Find the rows of each token of a Doc in the packed output.

    alignment (Alignment): The wordpieces of each token.
    windows (Sequence[Window]): The windows of the Doc.
    owners (Ints): `(n_tokens,)`, the window whose vectors are used for each token
        (`token_owners`).
    window_offsets (Ints): `(n_windows,)`, the row of each window's first
        wordpiece, the special ones before it left out.
    RETURNS (TokenRows): The rows. A token that is longer than its window has those of
        the wordpieces that lie in the window.
    """
    piece_starts = np.array([w.piece_start for w in windows], dtype=np.int64)
    piece_ends = np.array([w.piece_end for w in windows], dtype=np.int64)
    # From an index of a wordpiece in the Doc to its row, for each window.
    shifts = np.asarray(window_offsets, dtype=np.int64) - piece_starts
    starts = np.maximum(alignment.starts, piece_starts[owners])
    ends = np.minimum(alignment.ends, piece_ends[owners])
    lengths = np.maximum(ends - starts, 0)
    rows = lay_ranges(starts + shifts[owners], lengths)
    return TokenRows(rows.astype(np.int32), lengths.astype(np.int32))


def gather(vectors: Floats, token_rows: TokenRows) -> Floats:
    """Lay out the wordpiece vectors of each token.

    vectors (Floats): `(total, width)`, the packed output.
    token_rows (TokenRows): The rows of each token.
    RETURNS (Floats): `(nnz, width)`, for a Ragged with the same lengths.
    """
    return vectors[token_rows.rows]


def scatter(d_gathered: Floats, token_rows: TokenRows, total: int) -> Floats:
    """The gradient of `gather`: what tokens share is summed.

    d_gathered (Floats): `(nnz, width)`, the gradient of the gathered rows.
    token_rows (TokenRows): The rows of each token.
    total (int): The rows of the packed output.
    RETURNS (Floats): `(total, width)`, the gradient of the packed output, zero
        where no token has the row.
    """
    rows = token_rows.rows
    d_vectors = np.zeros((total, d_gathered.shape[1]), dtype=d_gathered.dtype)
    shared = np.bincount(rows, minlength=total)[rows] > 1
    if not shared.any():
        d_vectors[rows] = d_gathered
        return d_vectors
    d_vectors[rows[~shared]] = d_gathered[~shared]
    # Shared rows side by side, then a sum over each stretch.
    order = np.flatnonzero(shared)
    order = order[np.argsort(rows[order], kind="stable")]
    firsts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    d_vectors[rows[order[firsts]]] = np.add.reduceat(d_gathered[order], firsts, axis=0)
    return d_vectors
