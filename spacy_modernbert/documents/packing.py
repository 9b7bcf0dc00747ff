"""Windows → batches within a budget of wordpieces."""

from typing import List, Sequence, Tuple, Union

import numpy as np

from ..errors import Errors
from ..types import Ints, PackedBatch


def pack(lengths: Union[Sequence[int], Ints], max_batch_wordpieces: int) -> List[range]:
    """Divide windows into batches, in order, each as long as the budget allows.

    lengths (Union[Sequence[int], Ints]): `(n_windows,)`, the wordpieces of each
        window, special tokens included.
    max_batch_wordpieces (int): The wordpieces that a batch may hold. A window
        that is longer is a batch of its own.
    RETURNS (List[range]): The indices of the windows in each batch. No batch is
        empty, and together they are `range(n_windows)`.
    RAISES ValueError: if the budget is not a whole number above 0.
    """
    budget = max_batch_wordpieces
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise ValueError(Errors.BAD_BATCH_WORDPIECES.format(value=budget))
    totals = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    n_windows = totals.size - 1
    batches = []
    start = 0
    while start < n_windows:
        end = int(np.searchsorted(totals, totals[start] + budget, side="right")) - 1
        end = max(end, start + 1)
        batches.append(range(start, end))
        start = end
    return batches


def halve(batch: PackedBatch) -> Tuple[PackedBatch, PackedBatch]:
    """Divide a batch between two windows, where the halves are most alike.

    batch (PackedBatch): A batch of at least two windows.
    RETURNS (Tuple[PackedBatch, PackedBatch]): The halves, in order.
    """
    cu = batch.cu_seqlens
    middle = 1 + int(np.argmin(np.abs(2 * cu[1:-1].astype(np.int64) - batch.total)))
    return batch.take(0, middle), batch.take(middle, batch.n_seqs)
