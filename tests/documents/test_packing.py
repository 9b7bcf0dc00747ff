from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.documents.packing import halve, pack
from spacy_modernbert.types import PackedBatch


@given(st.lists(st.integers(0, 40)), st.integers(1, 60))
def test_in_order_and_within_budget(lengths, budget):
    batches = pack(lengths, budget)
    assert [i for batch in batches for i in batch] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= budget
    for before, after in pairwise(batches):
        assert sum(lengths[i] for i in before) + lengths[after[0]] > budget


def test_literal_batches():
    batches = pack([3, 3, 3, 20, 1, 8, 2], 9)
    assert batches == [range(3), range(3, 4), range(4, 6), range(6, 7)]


def test_nothing_to_pack():
    assert pack([], 10) == []


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "16384"])
def test_bad_budgets(value):
    with pytest.raises(ValueError, match=f"at least 1, but it is {value!r}"):
        pack([1], value)


@pytest.mark.parametrize(
    "lengths, left",
    [
        ([1, 1], [1]),
        ([5, 1], [5]),
        ([1, 5], [1]),
        ([2, 3, 4], [2, 3]),
        ([9, 1, 1], [9]),
    ],
)
def test_halves(lengths, left):
    cu = np.cumsum([0, *lengths], dtype=np.int32)
    batch = PackedBatch(np.arange(cu[-1]), cu)
    first, second = halve(batch)
    assert first.lengths.tolist() == left
    assert second.lengths.tolist() == lengths[len(left) :]
    assert [*first.ids, *second.ids] == list(range(cu[-1]))


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60))
def test_parts(lengths, budget):
    ids = np.arange(sum(lengths))
    batch = PackedBatch(ids, np.cumsum([0, *lengths]).astype(np.int32))
    parts = list(batch.parts(budget))
    assert all(part.total <= budget or part.n_seqs == 1 for part in parts)
    found = [ids for part in parts for ids in np.split(part.ids, part.cu_seqlens[1:-1])]
    wanted = np.split(ids, batch.cu_seqlens[1:-1]) if lengths else []
    assert [each.tolist() for each in found] == [each.tolist() for each in wanted]
    for part, after in pairwise(parts):
        assert part.total + after.lengths[0] > budget
