"""Hiding wordpieces, so that a model can be asked for them."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ..types import Ints, PackedBatch

# Devlin et al. 2019, https://arxiv.org/abs/1810.04805: of the wordpieces that are asked
# for, these shares are replaced by the mask, and by a random one. The rest stays as it
# is, so that the vectors of what is not hidden are learned, too.
_MASKED = 0.8
_REPLACED = 0.1


@dataclass(frozen=True)
class MaskedBatch:
    """A batch in which wordpieces are hidden.

    batch (PackedBatch): What the model sees.
    places (Ints): `(n_masked,)` int64, where it is asked, rising.
    targets (Ints): `(n_masked,)` int64, what stood there.
    """

    batch: PackedBatch
    places: Ints
    targets: Ints


@dataclass(frozen=True)
class Masking:
    """How wordpieces are hidden.

    rate (float): The share of the wordpieces that are asked for. ModernBERT took 0.3
        (Warner et al. 2024, https://arxiv.org/abs/2412.13663).
    mask_id (int): The wordpiece that hides another.
    special_ids (Ints): What is never hidden: `[CLS]`, `[SEP]` ...
    vocab_size (int): Any wordpiece below this may stand in for another.

    Invariant: `0 < rate < 1`.
    """

    rate: float
    mask_id: int
    special_ids: Ints
    vocab_size: int

    def hide(self, batch: PackedBatch, rng: np.random.Generator) -> MaskedBatch:
        """Hide wordpieces, each by the same chance.

        batch (PackedBatch): The batch. Not changed.
        rng (np.random.Generator): The random number generator.
        RETURNS (MaskedBatch): The batch with hidden wordpieces, maybe none.
        """
        asked = rng.random(batch.total) < self.rate
        asked &= ~np.isin(batch.ids, self.special_ids)
        places = np.flatnonzero(asked)
        targets = batch.ids[places]
        fate = rng.random(places.size)
        others = rng.integers(0, self.vocab_size, places.size)
        ids = batch.ids.copy()
        ids[places] = np.select(
            [fate < _MASKED, fate < _MASKED + _REPLACED],
            [np.full(places.size, self.mask_id), others],
            targets,
        )
        return MaskedBatch(PackedBatch(ids, batch.cu_seqlens), places, targets)


def unigram_baseline(
    train: Ints, targets: Ints, vocab_size: int
) -> Tuple[float, float]:
    """How well hidden wordpieces are found by knowing only how frequent each is.

    train (Ints): Wordpieces to count.
    targets (Ints): The hidden ones.
    vocab_size (int): How many there are; each is counted once more than it occurs.
    RETURNS (Tuple[float, float]): The cross-entropy in nats, and the accuracy of
        answering the most frequent one always.
    """
    counts = np.bincount(train, minlength=vocab_size) + 1
    shares = counts / counts.sum()
    loss = float(-np.log(shares[targets]).mean())
    return loss, float((targets == counts.argmax()).mean())
