import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.blocks import make_block_mask, reach
from spacy_modernbert.types import PackedBatch


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    size=st.integers(1, 24),
    half_window=st.integers(1, 12),
    more=st.integers(0, 5),
)
def test_a_query_sees_its_neighbours_in_its_sequence(lengths, size, half_window, more):
    cu_seqlens = np.cumsum([0, *lengths]).astype(np.int32)
    batch = PackedBatch(np.zeros(cu_seqlens[-1], np.int64), cu_seqlens)
    owners, total, margin = batch.owners, batch.total, half_window + more
    mask = make_block_mask(owners, size, half_window, margin)
    assert mask.shape == (-(-total // size), size, margin + size + margin)
    for query in range(total):
        block, row = divmod(query, size)
        first = block * size - margin
        seen = {first + column for column in np.flatnonzero(mask[block, row])}
        assert seen == {
            key
            for key in range(total)
            if owners[key] == owners[query] and abs(key - query) <= half_window
        }
    # Softmax needs something to look at, beyond the stream, too.
    assert mask.any(axis=-1).all()


@given(half_window=st.integers(1, 5000), longest=st.integers(1, 10_000))
def test_nobody_looks_further_than_a_sequence_is_long(half_window, longest):
    found = reach(half_window, longest)
    # All that is there to be seen is seen, and not many times as much.
    assert min(half_window, longest - 1) <= found <= max(64, 2 * longest)
    assert found <= half_window
    assert found == half_window or found in {2**i for i in range(6, 15)}
