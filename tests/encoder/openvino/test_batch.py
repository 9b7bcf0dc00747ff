"""How packed batches are cut for the graphs of OpenVINO."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.openvino.batch import (
    _MOST_SHARED,
    _RUN,
    BlockShape,
    group_by_length,
    make_inputs,
)
from spacy_modernbert.types import PackedBatch

lengths = st.lists(st.integers(1, 3000), min_size=1, max_size=30).map(np.array)


@given(lengths)
def test_groups(lengths):
    groups = group_by_length(lengths)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        assert lengths[group[0]] == lengths[group].max()
        if len(group) > 1:
            assert len(group) * lengths[group].max() <= _MOST_SHARED
            assert np.ptp(lengths[group]) <= _RUN


def test_groups_of_two_kinds():
    groups = group_by_length(np.array([20, 600, 25, 30, 590]))
    assert [group.tolist() for group in groups] == [[1], [4], [3, 2, 0]]


@pytest.mark.parametrize("half_window", [0, 1, 16, 64, 100])
@pytest.mark.parametrize("n_rows", [1, 15, 16, 17, 130])
@pytest.mark.parametrize("half_windows", [1, 2])
def test_blocks_see_the_window(half_window, n_rows, half_windows):
    """Said once more, of every pair of rows."""
    owners = np.repeat([0, -1, 1, 2], [40, 3, 50, 500])[:n_rows]
    blocks = BlockShape(max(half_windows * half_window, 16), half_window)
    cut = blocks.cut(owners)
    queries = cut["query_rows"].reshape(-1, blocks.size)
    keys = cut["key_rows"].reshape(-1, blocks.n_keys)
    assert len(queries) == len(keys) == len(cut["block_mask"])
    np.testing.assert_array_equal(queries.reshape(-1)[:n_rows], np.arange(n_rows))
    for block, rows in enumerate(queries):
        seen = cut["block_mask"][block, 0]
        assert seen.any(axis=1).all()
        for i, row in enumerate(range(block * blocks.size, n_rows)[: blocks.size]):
            assert rows[i] == row
            if owners[row] >= 0:
                far = np.abs(np.arange(n_rows) - row) > half_window
                visible = np.flatnonzero((owners == owners[row]) & ~far)
                np.testing.assert_array_equal(keys[block][seen[i]], visible)


def test_blocks_are_as_long_as_the_window():
    for window, size in ((128, 128), (10, 16)):
        config = ModernBertConfig(local_attention=window)
        assert BlockShape.of(config, 1000) == BlockShape(size, window // 2)
        assert BlockShape.shape_of(config) == (size, size + window // 2 * 2)


def test_blocks_are_no_longer_than_sequences_need():
    config = ModernBertConfig(local_attention=8192)
    assert BlockShape.of(config, 5) == BlockShape(128, 64)
    assert BlockShape.of(config, 1000) == BlockShape(2048, 1024)
    assert BlockShape.of(config, 9000) == BlockShape(8192, 4096)
    assert BlockShape.shape_of(config) == (-1, -1)


def test_inputs():
    config = ModernBertConfig(hidden_size=8, num_attention_heads=2)
    batch = PackedBatch.of([np.array([7, 8]), np.array([1, 2, 3]), np.array([4])])
    inputs = make_inputs(batch, np.array([1, 0]), config)
    padding = [0] * 5  # Lengths are few.
    assert inputs["ids"].tolist() == [[1, 2, 3, *padding], [7, 8, 0, *padding]]
    is_wordpiece = inputs["is_wordpiece"][:, 0, 0]
    assert is_wordpiece.sum(axis=1).tolist() == [3, 2]
    assert is_wordpiece[0, :3].all() and is_wordpiece[1, :2].all()
    cos, sin = inputs["full_attention"]
    assert cos.shape == sin.shape == (16, 1, 4)
    np.testing.assert_allclose(cos[1, 0], np.cos([1, 1 / 400, 1, 1 / 400]), rtol=1e-6)
    np.testing.assert_array_equal(cos[:8], cos[8:])
    np.testing.assert_allclose(cos**2 + sin**2, 1, rtol=1e-6)
