import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.documents.alignment import Alignment
from spacy_modernbert.documents.pooling import gather, scatter, token_rows
from spacy_modernbert.documents.windows import Window, cut_windows, token_owners
from spacy_modernbert.types import TokenRows

from .toys import alignment_of, alignments, no_breaks

pytestmark = pytest.mark.filterwarnings("ignore:Some tokens of a Doc")


def rows_of(rows, lengths):
    return TokenRows(np.array(rows, dtype=np.int32), np.array(lengths, dtype=np.int32))


def test_literal_rows():
    """Two windows, packed as [CLS] 0 1 2 3 [SEP] [CLS] 2 3 4 5 [SEP]."""
    alignment = alignment_of([(0, 1), (1, 3), (3, 3), (3, 4), (3, 6)])
    windows = [Window(0, 4, 0, 4), Window(2, 5, 2, 6)]
    owners = np.array([0, 0, 0, 1, 1])
    rows = token_rows(alignment, windows, owners, np.array([1, 7]))
    assert rows.lengths.tolist() == [1, 2, 0, 1, 3]
    assert rows.rows.tolist() == [1, 2, 3, 8, 8, 9, 10]
    assert rows.rows.dtype == rows.lengths.dtype == np.int32


def test_oversized_token_has_the_rows_of_its_window():
    alignment = alignment_of([(0, 1), (1, 31), (31, 32)])
    windows = cut_windows(alignment, 32, no_breaks(3), 8, 2)
    owners = token_owners(alignment, windows)
    rows = token_rows(alignment, windows, owners, np.array([1, 4, 14]))
    assert rows.lengths.tolist() == [1, 8, 1]
    assert rows.rows.tolist() == [1, *range(4, 12), 14]


@given(alignments(), st.integers(1, 40), st.integers(0, 20), st.integers(0, 3))
def test_rows_hold_the_wordpieces_of_each_token(case, capacity, overlap, prefix):
    alignment, n_pieces, breaks = case
    windows = cut_windows(alignment, n_pieces, breaks, capacity, overlap)
    owners = token_owners(alignment, windows)
    packed = []  # at each row: the window and the wordpiece that lie there
    offsets = []
    for index, window in enumerate(windows):
        packed += [(index, "prefix")] * prefix
        offsets.append(len(packed))
        packed += [(index, p) for p in range(window.piece_start, window.piece_end)]
        packed += [(index, "suffix")]
    rows = token_rows(alignment, windows, owners, np.array(offsets))
    at = 0
    for token in range(len(alignment)):
        window = int(owners[token])
        own = range(alignment.starts[token], alignment.ends[token])
        own = [(window, p) for p in own if p < windows[window].piece_end]
        end = at + int(rows.lengths[token])
        assert [packed[row] for row in rows.rows[at:end]] == own
        assert bool(own) == (alignment.lengths[token] > 0)
        at = end
    assert at == rows.rows.size


def test_rows_of_an_empty_doc():
    none = np.zeros(0, dtype=np.int32)
    rows = token_rows(Alignment(none, none), [], none, none)
    assert rows.rows.shape == rows.lengths.shape == (0,)


def test_concat():
    joined = TokenRows.concat([rows_of([1, 2], [1, 1]), rows_of([7], [0, 1])])
    assert joined.rows.tolist() == [1, 2, 7]
    assert joined.lengths.tolist() == [1, 1, 0, 1]
    assert joined.rows.dtype == joined.lengths.dtype == np.int32
    assert TokenRows.concat([]).rows.shape == (0,)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.lists(st.integers(0, 9), max_size=30))
def test_scatter_is_the_gradient_of_gather(dtype, rows):
    token_rows = rows_of(rows, [len(rows)])
    rng = np.random.default_rng(0)
    # Whole numbers, so that sums are exact in any order.
    vectors = rng.integers(-99, 99, (10, 3)).astype(dtype)
    d_gathered = rng.integers(-99, 99, (len(rows), 3)).astype(dtype)
    gathered = gather(vectors, token_rows)
    assert gathered.tolist() == [vectors[row].tolist() for row in rows]
    expected = np.zeros((10, 3), dtype=dtype)
    for row, d_row in zip(rows, d_gathered, strict=True):
        expected[row] += d_row
    d_vectors = scatter(d_gathered, token_rows, 10)
    assert d_vectors.dtype == expected.dtype
    assert d_vectors.tolist() == expected.tolist()
    # <gather(v), d> == <v, scatter(d)>
    assert (gathered * d_gathered).sum() == (vectors * d_vectors).sum()


def test_the_input_of_scatter_is_left_alone():
    d_gathered = np.ones((3, 2), dtype="float32")
    d_vectors = scatter(d_gathered, rows_of([0, 0, 1], [2, 1]), 4)
    assert d_vectors.tolist() == [[2, 2], [1, 1], [0, 0], [0, 0]]
    assert (d_gathered == 1).all()
