import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.documents.alignment import Alignment
from spacy_modernbert.documents.doc_pooling import plan_doc_pooling
from spacy_modernbert.documents.windows import Window, cut_windows
from spacy_modernbert.encoder.pooling import pool_means
from spacy_modernbert.types import pack

N_PREFIX, N_SPECIAL = 1, 2


def cut(n_pieces, capacity, overlap):
    """The windows of a Doc in which each token is a wordpiece."""
    pieces = np.arange(n_pieces + 1)
    breaks = np.zeros(n_pieces, np.int8)
    alignment = Alignment(pieces[:-1], pieces[1:])
    return cut_windows(alignment, n_pieces, breaks, capacity, overlap)


def lengths_of(windows):
    return np.array([w.n_pieces + N_SPECIAL for doc in windows for w in doc], np.int64)


def plan(windows, pooling):
    return plan_doc_pooling(windows, lengths_of(windows), N_PREFIX, pooling)


def farthest(windows, piece):
    """The window in which a wordpiece stands farthest from a cut, the slow way."""
    last = max(window.piece_end for window in windows)

    def distance(window):
        if not window.piece_start <= piece < window.piece_end:
            return -1
        before = piece - window.piece_start if window.piece_start else np.inf
        after = window.piece_end - 1 - piece if window.piece_end < last else np.inf
        # A cut before the piece is as far as the pieces between; likewise after it.
        return min(before, after)

    return int(np.argmax([distance(window) for window in windows]))


def test_one_window():
    windows = [[Window(0, 2, 0, 3)]]
    np.testing.assert_allclose(plan(windows, "mean").weights, 5 * [0.2])
    np.testing.assert_allclose(plan(windows, "cls").weights, [1, 0, 0, 0, 0])


def test_two_windows():
    # The pieces a b c d | c d e f: c is farther from the cut in the first window.
    windows = [[Window(0, 4, 0, 4), Window(2, 6, 2, 6)]]
    #        CLS  a  b  c  d SEP CLS c  d  e  f SEP
    counted = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(plan(windows, "mean").weights, np.array(counted) / 8)
    by_window = [0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(plan(windows, "cls").weights, by_window)


@st.composite
def docs(draw, longest=12):
    capacity = draw(st.integers(1, longest))
    overlap = draw(st.integers(0, capacity - 1))
    sizes = draw(st.lists(st.integers(0, 4 * longest), max_size=5))
    return [cut(size, capacity, overlap) for size in sizes], sizes


@given(docs())
def test_each_wordpiece_once(drawn):
    windows, sizes = drawn
    mean = plan(windows, "mean")
    cls = plan(windows, "cls")
    assert mean.n_docs == cls.n_docs == len(sizes)
    row = 0
    for doc, (doc_windows, size) in enumerate(zip(windows, sizes, strict=True)):
        spoken = np.zeros(size)
        for i, window in enumerate(doc_windows):
            by_piece = mean.weights[row + N_PREFIX :][: window.n_pieces] > 0
            own = [
                farthest(doc_windows, piece) == i
                for piece in range(window.piece_start, window.piece_end)
            ]
            assert by_piece.tolist() == own
            spoken[window.piece_start : window.piece_end] += by_piece
            np.testing.assert_allclose(cls.weights[row], sum(own) / size, rtol=1e-5)
            assert not cls.weights[row + 1 :][: window.n_pieces + 1].any()
            row += window.n_pieces + N_SPECIAL
        assert (spoken == 1).all()
        rows = slice(mean.bounds[doc], mean.bounds[doc + 1])
        if size:
            weights = mean.weights[rows]
            assert (weights > 0).sum() == size + N_SPECIAL
            assert weights[0] > 0 and weights[-1] > 0
            np.testing.assert_allclose(weights[weights > 0], 1 / (size + N_SPECIAL))
        else:
            assert rows.start == rows.stop
    assert row == mean.weights.size == cls.weights.size


@given(docs(longest=200), st.integers(1, 300), st.sampled_from(["mean", "cls"]))
def test_pass_by_pass(drawn, most, kind):
    """Whatever windows a pass has, the vectors are the same."""
    windows, sizes = drawn
    pooling = plan(windows, kind)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(pooling.weights.size, 3)).astype(np.float32)
    found = np.zeros((len(sizes), 3), np.float32)
    start = 0
    for batch in pack([np.zeros(n, int) for n in lengths_of(windows)], most):
        part = pooling.within(batch, start)
        hidden = vectors[start : start + batch.total]
        part.add(pool_means(hidden, part.rows), found)
        assert part.rows.lengths.max() <= 64
        start += batch.total
    assert start == len(vectors)
    for doc, (low, high) in enumerate(
        zip(pooling.bounds[:-1], pooling.bounds[1:], strict=True)
    ):
        wanted = pooling.weights[low:high] @ vectors[low:high]
        np.testing.assert_allclose(found[doc], wanted, atol=1e-5)


def test_windows_without_wordpieces():
    """They are not encoded, and have no rows."""
    windows = [
        [Window(0, 1, 0, 0)],
        [Window(0, 1, 0, 0), Window(1, 3, 0, 2)],
        [],
        [Window(0, 2, 0, 2), Window(2, 3, 2, 2)],
    ]
    lengths = np.array([0, 0, 4, 4, 0])
    for pooling, wanted in [("mean", 8 * [0.25]), ("cls", 2 * [1, 0, 0, 0])]:
        found = plan_doc_pooling(windows, lengths, N_PREFIX, pooling)
        np.testing.assert_allclose(found.weights, wanted)
        assert found.bounds.tolist() == [0, 0, 4, 4, 8]
