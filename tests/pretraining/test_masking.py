import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.pretraining.masking import MaskedBatch, Masking
from spacy_modernbert.types import PackedBatch

SPECIAL = np.array([0, 1, 2, 3, 4])
MASK = 4


def make_batch(n=4000, seed=0):
    ids = np.random.default_rng(seed).integers(5, 300, n)
    ids[::50] = 1
    return PackedBatch(ids, np.array([0, n // 2, n], np.int32))


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.15, 0.3, 0.9]))
def test_masks_and_remembers(seed, rate):
    batch = make_batch()
    before = batch.ids.copy()
    masked = Masking(rate, MASK, SPECIAL, 300).mask(batch, np.random.default_rng(seed))
    np.testing.assert_array_equal(batch.ids, before)
    np.testing.assert_array_equal(masked.targets, before[masked.positions])
    assert not np.isin(masked.targets, SPECIAL).any()
    untouched = np.setdiff1d(np.arange(batch.total), masked.positions)
    np.testing.assert_array_equal(masked.batch.ids[untouched], before[untouched])
    assert (np.diff(masked.positions) > 0).all()


def test_shares():
    batch = make_batch(200_000)
    masked = Masking(0.3, MASK, SPECIAL, 300).mask(batch, np.random.default_rng(0))
    maskable = (~np.isin(batch.ids, SPECIAL)).sum()
    assert masked.positions.size / maskable == pytest.approx(0.3, abs=0.01)
    seen = masked.batch.ids[masked.positions]
    assert (seen == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (seen == masked.targets).mean() == pytest.approx(0.1, abs=0.01)


def test_parts():
    """None has nothing masked."""
    batch = PackedBatch(np.arange(9), np.array([0, 3, 5, 9], np.int32))
    masked = MaskedBatch(batch, np.array([1, 5, 8]), np.array([10, 50, 80]))
    found = [
        (part.batch.ids.tolist(), part.positions.tolist(), part.targets.tolist())
        for part in masked.parts(4)
    ]
    assert found == [([0, 1, 2], [1], [10]), ([5, 6, 7, 8], [0, 3], [50, 80])]
    assert len(list(masked.parts(9))) == 1
