import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.pooling import pool_means
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch, TokenRows

from ..util import make_config

TOKENS = [[0], [1, 2], [], [2], [7, 5, 3, 4], [], [9], []]


def rows_of(tokens):
    return TokenRows(
        np.array([row for token in tokens for row in token], dtype=np.int32),
        np.array([len(token) for token in tokens], dtype=np.int32),
    )


def means_of(hidden, tokens):
    zeros = np.zeros(hidden.shape[1])
    return np.array([hidden[token].mean(0) if token else zeros for token in tokens])


@pytest.fixture(scope="module")
def encoder():
    config = make_config()
    return make_encoder(config, init_tensors(config, 0), backend="cpu")


def test_means():
    hidden = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
    rows = rows_of([[2], [], [0, 1], [0, 1, 2]])
    assert pool_means(hidden, rows).tolist() == [[5, 6], [0, 0], [2, 3], [3, 4]]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=12),
    st.integers(0, 100),
)
def test_any_rows(tokens, seed):
    hidden = np.random.default_rng(seed).normal(size=(10, 3)).astype(np.float32)
    before = hidden.copy()
    means = pool_means(hidden, rows_of(tokens))
    assert means.dtype == np.float32 and means.shape == (len(tokens), 3)
    if tokens:
        np.testing.assert_allclose(means, means_of(hidden, tokens), atol=1e-6)
    np.testing.assert_array_equal(hidden, before)


def test_half_precision_is_summed_in_single():
    hidden = np.full((3000, 1), 0.1, dtype=np.float16)
    means = pool_means(hidden, rows_of([list(range(3000))]))
    np.testing.assert_allclose(means, hidden[:1], rtol=1e-4)


@pytest.mark.parametrize("tokens", [TOKENS, [[]], [], [[0]] * 10])
def test_torch_pools_to_the_same(encoder, tokens):
    ids = np.arange(10, 20)
    batch = PackedBatch(ids, np.array([0, 3, 10], dtype=np.int32))
    rows = rows_of(tokens)
    means = encoder.encode_tokens(batch, rows)
    assert means.dtype == np.float32 and means.shape == (len(tokens), 32)
    np.testing.assert_allclose(
        means, pool_means(encoder.encode(batch), rows), atol=1e-5
    )


def test_nothing_to_encode(encoder):
    nothing = PackedBatch(np.zeros(0, np.int64), np.zeros(1, np.int32))
    means = encoder.encode_tokens(nothing, rows_of([[], []]))
    assert means.tolist() == np.zeros((2, 32)).tolist()
