"""Wordpiece vectors → token vectors, in NumPy: for encoders that pool on the host."""

import numpy as np

from ..types import Floats, TokenRows


def pool_means(hidden: Floats, rows: TokenRows) -> Floats:
    """Take the mean of each token's rows, as Thinc's `reduce_mean.v1` does.

    Most tokens have one row or two. So all first rows are copied at once, then all
    second ones are added, and so on: whole rows at a time, and hardly more of them
    than there are.

    hidden (Floats): `(total, width)`, the hidden state of a pass.
    rows (TokenRows): The rows of each token.
    RETURNS (Floats): `(n_tokens, width)` float32; zeros for a token without rows.
    """
    starts, lengths = rows.starts, rows.lengths
    if not rows.rows.size:
        return np.zeros((lengths.size, hidden.shape[1]), dtype=np.float32)
    # A token without rows borrows one for now.
    means: Floats = hidden[rows.firsts].astype(np.float32, copy=False)
    n_added = 1
    longer = np.flatnonzero(lengths > 1)
    several = longer
    while longer.size:
        means[longer] += hidden[rows.rows[starts[longer] + n_added]]
        n_added += 1
        longer = longer[lengths[longer] > n_added]
    means[several] /= lengths[several, None].astype(np.float32)
    means[lengths == 0] = 0.0
    return means
