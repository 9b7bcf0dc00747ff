from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.types import PackedBatch, TokenRows, fill, pack

LENGTHS = st.lists(st.integers(1, 30), max_size=20)


def make_batch(lengths):
    return PackedBatch(
        np.arange(sum(lengths)), np.cumsum([0, *lengths]).astype(np.int32)
    )


@pytest.mark.parametrize(
    "ids, cu_seqlens",
    [
        ([[1, 2]], [0, 2]),
        ([1, 2], [[0, 2]]),
        ([], []),
        ([1, 2], [1, 2]),
        ([1, 2], [0, 1]),
        ([1, 2], [0, 3]),
        ([1, 2], [0, 1, 1, 2]),
        ([1, 2], [0, 2, 1, 2]),
    ],
)
def test_what_is_no_batch(ids, cu_seqlens):
    with pytest.raises(ValueError, match="start at 0, rise strictly and end at"):
        PackedBatch(np.array(ids), np.array(cu_seqlens))


@given(st.lists(st.integers(0, 40)), st.integers(1, 60))
def test_groups_are_in_order_and_full(lengths, most):
    groups = [lengths[group] for group in fill(lengths, most)]
    assert [n for group in groups for n in group] == lengths
    for group in groups:
        assert len(group) == 1 or sum(group) <= most
    for before, after in pairwise(groups):
        assert sum(before) + after[0] > most


def test_literal_groups():
    groups = list(fill([3, 3, 3, 20, 1, 8, 2], 9))
    assert groups == [slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7)]


def test_groups_of_more_than_32_bits_can_count():
    lengths = np.full(5, 2**30, np.int32)
    assert list(fill(lengths, 2**31 - 1)) == [slice(i, i + 1) for i in range(5)]


@given(LENGTHS, st.integers(1, 60))
def test_packed_sequences(lengths, budget):
    sequences = [np.full(n, i, np.int32) for i, n in enumerate(lengths)]
    batches = list(pack(sequences, budget))
    assert [n for batch in batches for n in batch.lengths.tolist()] == lengths
    assert [i for batch in batches for i in batch.ids.tolist()] == [
        i for i, n in enumerate(lengths) for _ in range(n)
    ]
    for batch in batches:
        assert batch.total <= budget or batch.n_seqs == 1
        assert batch.ids.dtype == np.int64
        assert batch.cu_seqlens.dtype == np.int32


def test_nothing_to_pack():
    assert list(pack([], 10)) == []
    assert PackedBatch.of([]).n_seqs == PackedBatch.of([]).total == 0


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
    first, second = make_batch(lengths).halves()
    assert first.lengths.tolist() == left
    assert second.lengths.tolist() == lengths[len(left) :]
    assert [*first.ids, *second.ids] == list(range(sum(lengths)))


@given(LENGTHS, st.integers(1, 60))
def test_parts(lengths, budget):
    batch = make_batch(lengths)
    parts = list(batch.parts(budget))
    assert all(part.total <= budget or part.n_seqs == 1 for part in parts)
    assert [n for part in parts for n in part.lengths.tolist()] == lengths
    assert [i for part in parts for i in part.ids.tolist()] == batch.ids.tolist()
    for part, after in pairwise(parts):
        assert part.total + after.lengths[0] > budget


def test_concat():
    some, others = (
        TokenRows(np.array(rows, np.int32), np.array(lengths, np.int32))
        for rows, lengths in [([1, 2], [1, 1]), ([7], [0, 1])]
    )
    joined = TokenRows.concat([some, others])
    assert joined.rows.tolist() == [1, 2, 7]
    assert joined.lengths.tolist() == [1, 1, 0, 1]
    assert joined.rows.dtype == joined.lengths.dtype == np.int32
    assert TokenRows.concat([]).rows.shape == (0,)
