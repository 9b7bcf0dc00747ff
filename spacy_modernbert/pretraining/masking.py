"""Masking wordpieces, which a model is to predict."""

from dataclasses import dataclass
from typing import Iterator

import numpy as np

from ..types import Ints, PackedBatch

# Devlin et al. 2019, https://arxiv.org/abs/1810.04805: of the wordpieces that are
# selected, these shares are replaced by the mask token, and by a random wordpiece. The
# rest stays as it is, so that the vectors of unmasked wordpieces are learned, too.
_MASKED = 0.8
_REPLACED = 0.1


@dataclass(frozen=True)
class MaskedBatch:
    """A batch with masked wordpieces.

    batch (PackedBatch): What the model sees.
    positions (Ints): `(n_masked,)` int64, those of the masked wordpieces, rising.
    targets (Ints): `(n_masked,)` int64, the wordpieces that were there.
    """

    batch: PackedBatch
    positions: Ints
    targets: Ints

    def parts(self, max_wordpieces: int) -> Iterator["MaskedBatch"]:
        """Cut the batch between sequences, and leave out what has nothing masked.

        max_wordpieces (int): See `PackedBatch.parts`.
        YIELDS (MaskedBatch): The parts, in order.
        """
        start = 0
        for part in self.batch.parts(max_wordpieces):
            end = start + part.total
            inside = (self.positions >= start) & (self.positions < end)
            if inside.any():
                positions = self.positions[inside] - start
                yield MaskedBatch(part, positions, self.targets[inside])
            start = end


@dataclass(frozen=True)
class Masking:
    """How wordpieces are masked.

    rate (float): The share of the wordpieces that are selected. ModernBERT took 0.3
        (Warner et al. 2024, https://arxiv.org/abs/2412.13663).
    mask_id (int): The mask token.
    special_ids (Ints): What is never masked: `[CLS]`, `[SEP]` ...
    vocab_size (int): A random wordpiece is below this.

    Invariant: `0 < rate < 1`.
    """

    rate: float
    mask_id: int
    special_ids: Ints
    vocab_size: int

    def mask(self, batch: PackedBatch, rng: np.random.Generator) -> MaskedBatch:
        """Mask wordpieces, each with the same probability.

        batch (PackedBatch): The batch. Not changed.
        rng (np.random.Generator): The random number generator.
        RETURNS (MaskedBatch): The batch with masked wordpieces, maybe none.
        """
        selected = rng.random(batch.total) < self.rate
        selected &= ~np.isin(batch.ids, self.special_ids)
        positions = np.flatnonzero(selected)
        targets = batch.ids[positions]
        fate = rng.random(positions.size)
        others = rng.integers(0, self.vocab_size, positions.size)
        ids = batch.ids.copy()
        ids[positions] = np.select(
            [fate < _MASKED, fate < _MASKED + _REPLACED],
            [np.full(positions.size, self.mask_id), others],
            targets,
        )
        return MaskedBatch(PackedBatch(ids, batch.cu_seqlens), positions, targets)
