import warnings

import numpy as np
import pytest

from spacy_modernbert.layers import budget as module
from spacy_modernbert.layers.budget import Budget
from spacy_modernbert.types import PackedBatch


def batch(total):
    return PackedBatch.of(
        [np.zeros(total // 2, int), np.zeros(total - total // 2, int)]
    )


def note(budget, total, times):
    for _ in range(times):
        assert budget.allows(batch(total))
        budget.note_success(batch(total))


def test_it_grows_again():
    """Another process may have had the memory for a moment."""
    budget = Budget(1000)
    with pytest.warns(UserWarning, match="for now passes hold at most 400 "):
        budget.cut_below(batch(800))
    assert budget.allows(batch(400)) and not budget.allows(batch(401))
    # Small passes say nothing of larger ones.
    note(budget, 200, 5 * module._PATIENCE)
    assert budget.wordpieces == 400
    note(budget, 400, module._PATIENCE)
    assert budget.wordpieces == 800
    note(budget, 800, module._PATIENCE - 1)
    assert budget.wordpieces == 800
    note(budget, 800, 1)
    # Not above what the settings say.
    assert budget.wordpieces == 1000
    note(budget, 1000, 5 * module._PATIENCE)
    assert budget.wordpieces == 1000


def test_what_fails_again_is_tried_less_often():
    budget = Budget(1000)
    n_passes = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            budget.cut_below(batch(1000))
            n_passes.append(0)
            while budget.wordpieces < 1000:
                budget.note_success(batch(500))
                n_passes[-1] += 1
    assert n_passes == [64, 128, 256]
    assert len(said) == 1


def test_what_cannot_be_divided_is_allowed():
    budget = Budget(1000)
    one = PackedBatch.of([np.zeros(2000, int)])
    assert budget.allows(one)
    assert not budget.allows(batch(2000))
