"""How many wordpieces a pass through an encoder may hold."""

import warnings

from ..errors import Warnings
from ..types import PackedBatch

# After so many full passes, larger ones are tried again; after twice as many each time
# that these were too large.
_PATIENCE = 64


class Budget:
    """The wordpieces that a pass may hold: what the settings say or, once a device has
    run out of memory, less. Others may have had the memory for a moment only, so that
    it grows again.

    wordpieces (int): How many. A window that is longer is a pass of its own.
    """

    def __init__(self, wordpieces: int):
        """wordpieces (int): What the settings say."""
        self.wordpieces = self._most = wordpieces
        self._patience = self._n_left = _PATIENCE
        self._warned = False

    def allows(self, batch: PackedBatch) -> bool:
        """RETURNS (bool): Whether a batch is small enough, or cannot be divided."""
        return batch.total <= self.wordpieces or batch.n_seqs < 2

    def cut_below(self, batch: PackedBatch) -> None:
        """Remember that a batch was too large.

        batch (PackedBatch): It holds two windows at least.
        """
        self.wordpieces = min(self.wordpieces, batch.total // 2)
        self._n_left = self._patience
        self._patience *= 2
        if not self._warned:
            self._warned = True
            message = Warnings.SMALLER_PASSES.format(
                total=batch.total, budget=self.wordpieces
            )
            warnings.warn(message, UserWarning, stacklevel=2)

    def note_success(self, batch: PackedBatch) -> None:
        """Count a pass that the device had the memory for.

        batch (PackedBatch): What it held. A small one says nothing of larger ones.
        """
        if self.wordpieces < self._most and 2 * batch.total > self.wordpieces:
            self._n_left -= 1
            if self._n_left <= 0:
                self.wordpieces = min(2 * self.wordpieces, self._most)
                self._n_left = _PATIENCE
