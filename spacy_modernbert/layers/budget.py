"""How many wordpieces a pass through an encoder may hold."""

import warnings

from ..errors import Warnings
from ..types import PackedBatch


class Budget:
    """The wordpieces that a pass may hold: what the settings say or, once a device has
    run out of memory, less.

    wordpieces (int): How many. A window that is longer is a pass of its own.
    """

    def __init__(self, wordpieces: int):
        """wordpieces (int): What the settings say."""
        self.wordpieces = wordpieces
        self._warned = False

    def allows(self, batch: PackedBatch) -> bool:
        """RETURNS (bool): Whether a batch is small enough, or cannot be divided."""
        return batch.total <= self.wordpieces or batch.n_seqs < 2

    def cut_below(self, batch: PackedBatch) -> None:
        """Remember that a batch was too large.

        batch (PackedBatch): It holds two windows at least.
        """
        self.wordpieces = min(self.wordpieces, batch.total // 2)
        if not self._warned:
            self._warned = True
            message = Warnings.SMALLER_PASSES.format(
                total=batch.total, budget=self.wordpieces
            )
            warnings.warn(message, UserWarning, stacklevel=2)
