import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_modernbert.documents.alignment import Alignment, align, token_offsets
from spacy_modernbert.documents.breaks import doc_breaks
from spacy_modernbert.documents.windows import (
    Window,
    cut_windows,
    token_owners,
    token_rows,
    warn_oversized,
    windows_from_spans,
)

from .toys import alignment_of, alignments, no_breaks, one_each, texts, toy

pytestmark = pytest.mark.filterwarnings("ignore:Some tokens of a Doc")


def bounds(windows):
    return [(w.token_start, w.token_end) for w in windows]


def check_windows(windows, alignment, n_pieces, capacity):
    n_tokens = len(alignment)
    for window in windows:
        assert 0 <= window.token_start < window.token_end <= n_tokens
        assert 0 <= window.piece_start <= window.piece_end <= n_pieces
        assert window.n_pieces <= capacity
        # All the wordpieces of all its tokens.
        inside = slice(window.token_start, window.token_end)
        own = alignment.lengths[inside] > 0
        if (alignment.lengths[inside] > capacity).any():
            assert window.token_end - window.token_start == 1
            assert window.n_pieces == capacity
            assert window.piece_start == alignment.starts[window.token_start]
        elif own.any():
            assert window.piece_start <= alignment.starts[inside][own].min()
            assert window.piece_end >= alignment.ends[inside][own].max()
    held = [False] * n_tokens
    for window in windows:
        for token in range(window.token_start, window.token_end):
            held[token] = True
    assert all(held)


# -- Cutting ----------------------------------------------------------------------


@settings(max_examples=300)
@given(alignments(), st.integers(1, 40), st.integers(0, 45))
def test_nothing_is_lost_and_nothing_overflows(case, capacity, overlap):
    alignment, n_pieces, breaks = case
    windows = cut_windows(alignment, n_pieces, breaks, capacity, overlap)
    check_windows(windows, alignment, n_pieces, capacity)
    if not len(alignment):
        assert windows == []
    elif n_pieces <= capacity:
        assert windows == [Window(0, len(alignment), 0, n_pieces)]
    for before, after in pairwise(windows):
        assert before.token_start < after.token_start <= before.token_end
        assert before.token_end < after.token_end
        shared = before.piece_end - after.piece_start
        # Tokens on both sides of a cut can share a wordpiece whatever the overlap.
        assert shared <= max(overlap, 1) or after.token_start == before.token_end


@given(st.integers(1, 300), st.integers(2, 50), st.data())
def test_overlap_is_exact_for_tokens_of_one_wordpiece(n, capacity, data):
    overlap = data.draw(st.integers(0, capacity - 1))
    windows = cut_windows(one_each(n), n, no_breaks(n), capacity, overlap)
    for before, after in pairwise(windows):
        assert before.n_pieces == capacity
        assert before.token_end - after.token_start == overlap


def test_no_cut_inside_a_wordpiece_if_avoidable():
    # Tokens 6 and 7 share wordpiece 7, and tokens 2 and 3 wordpiece 3.
    ranges = [(0, 1), (1, 2), (2, 4), (3, 5), (5, 6), (6, 7), (7, 8), (7, 9), (9, 10)]
    windows = cut_windows(alignment_of(ranges), 10, no_breaks(9), 8, 4)
    assert bounds(windows) == [(0, 6), (4, 9)]


def test_one_wordpiece_for_all_tokens():
    ranges = [(0, 20)] * 5
    alignment = alignment_of(ranges)
    windows = cut_windows(alignment, 20, no_breaks(5), 8, 2)
    assert bounds(windows) == [(i, i + 1) for i in range(5)]
    check_windows(windows, alignment, 20, 8)


def test_cut_at_paragraph_then_sentence_then_token():
    breaks = no_breaks(40)
    args = (one_each(40), 40, breaks, 16, 4)
    assert cut_windows(*args)[0].token_end == 16
    breaks[10] = 2  # before the last quarter: too early
    assert cut_windows(*args)[0].token_end == 16
    breaks[15] = 0
    breaks[13] = 1
    assert cut_windows(*args)[0].token_end == 14
    breaks[14] = 1
    assert cut_windows(*args)[0].token_end == 15
    breaks[12] = 2
    assert cut_windows(*args)[0].token_end == 13


def test_literal_windows():
    windows = cut_windows(one_each(10), 10, no_breaks(10), 4, 1)
    assert windows == [Window(0, 4, 0, 4), Window(3, 7, 3, 7), Window(6, 10, 6, 10)]


def test_wordpieces_that_no_token_owns_go_with_the_token_before():
    alignment = alignment_of([(1, 2), (3, 4), (5, 6)])
    windows = cut_windows(alignment, 7, no_breaks(3), 5, 0)
    assert windows == [Window(0, 2, 0, 5), Window(2, 3, 5, 7)]


# Tokens of 1, 1, 30, 1 and 1 wordpieces.
OVERSIZED = alignment_of([(0, 1), (1, 2), (2, 32), (32, 33), (33, 34)])


def test_oversized_token_keeps_what_fits():
    windows = cut_windows(OVERSIZED, 34, no_breaks(5), 8, 2)
    assert windows == [
        Window(0, 2, 0, 2),
        Window(2, 3, 2, 10),
        Window(3, 5, 32, 34),
    ]


class Owner:
    """What warns."""


def test_one_warning_of_oversized_tokens():
    """Whatever the filters of Python say, of which none is for many texts."""
    owner = Owner()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_oversized(alignment_of([(0, 8), (8, 16)]), 8, owner)
    message = r"\(1\) are longer .* holds 8 wordpieces\. .* token 2, with 30"
    with pytest.warns(UserWarning, match=message) as found:
        warn_oversized(OVERSIZED, 8, owner)
        warn_oversized(alignment_of([(0, 20)]), 8, owner)
    assert len(found) == 1
    with pytest.warns(UserWarning, match=message):
        warn_oversized(OVERSIZED, 8, Owner())


def test_doc_without_wordpieces_is_one_empty_window():
    alignment = alignment_of([(0, 0), (0, 0)])
    assert cut_windows(alignment, 0, no_breaks(2), 14, 4) == [Window(0, 2, 0, 0)]


def test_a_long_doc_has_about_as_many_windows_as_needed():
    n = 1_000_000
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.integers(1, 4, n)).astype(np.int32)
    alignment = Alignment(np.append(0, ends[:-1]).astype(np.int32), ends)
    breaks = (rng.random(n) < 0.04).astype(np.int8)
    n_pieces = int(ends[-1])
    windows = cut_windows(alignment, n_pieces, breaks, 8190, 512)
    assert len(windows) <= n_pieces / (8190 * 0.75 - 512) + 1
    owners = token_owners(alignment, windows)
    assert np.unique(owners).tolist() == list(range(len(windows)))


# -- Foreign spans ------------------------------------------------------------------


@given(alignments(), st.integers(1, 40), st.data())
def test_windows_from_spans(case, capacity, data):
    alignment, n_pieces, breaks = case
    n = len(alignment)
    cuts = data.draw(st.lists(st.integers(0, n), max_size=5).map(sorted))
    edges = [0, *cuts, n]
    spans = [
        (start, min(n, end + data.draw(st.integers(0, 3))))
        for start, end in pairwise(edges)
    ]
    windows = windows_from_spans(spans, alignment, n_pieces, breaks, capacity)
    check_windows(windows, alignment, n_pieces, capacity)
    for window in windows:
        assert any(a <= window.token_start < window.token_end <= b for a, b in spans)


def test_spans_that_fit_stay_as_they_are():
    spans = [(0, 6), (4, 10), (10, 10), (8, 12)]
    windows = windows_from_spans(spans, one_each(12), 12, no_breaks(12), 6)
    assert windows == [Window(0, 6, 0, 6), Window(4, 10, 4, 10), Window(8, 12, 8, 12)]


def test_spans_that_leave_a_token_out():
    with pytest.raises(ValueError, match="Token 4 of a Doc of 6 tokens is in none"):
        windows_from_spans([(0, 4), (5, 6)], one_each(6), 6, no_breaks(6), 16)


def test_no_spans_for_no_tokens():
    assert windows_from_spans([], one_each(0), 0, no_breaks(0), 16) == []


# -- Owners -------------------------------------------------------------------------


def slow_owner(alignment, windows, token):
    n = len(alignment)
    best, owner = -1.0, None
    for index, window in enumerate(windows):
        if not window.token_start <= token < window.token_end:
            continue
        left = right = float("inf")
        if window.token_start > 0:
            left = alignment.starts[token] - window.piece_start
        if window.token_end < n:
            right = window.piece_end - alignment.ends[token]
        distance = max(0, min(left, right))
        if distance > best:
            best, owner = distance, index
    return owner


@given(alignments(), st.integers(1, 40), st.integers(0, 45))
def test_owner_is_the_window_farthest_from_an_edge(case, capacity, overlap):
    alignment, n_pieces, breaks = case
    windows = cut_windows(alignment, n_pieces, breaks, capacity, overlap)
    owners = token_owners(alignment, windows)
    assert owners.dtype == np.int32
    assert owners.tolist() == [
        slow_owner(alignment, windows, token) for token in range(len(alignment))
    ]


def test_literal_owners():
    windows = cut_windows(one_each(10), 10, no_breaks(10), 6, 4)
    assert bounds(windows) == [(0, 6), (2, 8), (4, 10)]
    assert token_owners(one_each(10), windows).tolist() == [0] * 4 + [1] * 2 + [2] * 4


def test_the_ends_of_a_doc_are_no_edges():
    windows = [Window(0, 8, 0, 8), Window(2, 10, 2, 10)]
    owners = token_owners(one_each(10), windows)
    assert owners.tolist() == [0] * 5 + [1] * 5


def test_a_window_that_holds_the_doc_has_no_edges():
    windows = [Window(5, 10, 5, 10), Window(0, 10, 0, 10), Window(0, 5, 0, 5)]
    assert token_owners(one_each(10), windows).tolist() == [1] * 10


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


# -- The whole way --------------------------------------------------------------------


@settings(max_examples=150)
@given(st.data())
def test_whole_way_of_any_text(tokenizer, nlp, data):
    doc = nlp("".join(data.draw(st.lists(texts, max_size=4))))
    capacity = data.draw(st.integers(1, 40))
    overlap = data.draw(st.integers(0, 40))
    (wordpieces,) = tokenizer([doc.text])
    alignment = align(wordpieces, *token_offsets(doc))
    n_pieces = len(wordpieces)
    windows = cut_windows(alignment, n_pieces, doc_breaks(doc), capacity, overlap)
    check_windows(windows, alignment, n_pieces, capacity)


@pytest.mark.parametrize(
    "text", [" " * 100_000, "a" * 50_000, "x " + "é" * 50_000 + " y", "  ", ""]
)
def test_whole_way_of_extremes(tokenizer, nlp, text):
    doc = nlp(text)
    (wordpieces,) = tokenizer([doc.text])
    alignment = align(wordpieces, *token_offsets(doc))
    windows = cut_windows(alignment, len(wordpieces), doc_breaks(doc), 8190, 512)
    check_windows(windows, alignment, len(wordpieces), 8190)


def test_neighbours_of_an_oversized_token_lose_nothing(nlp):
    tokenizer = toy("byte_level")
    text = f"My mother said {'zq' * 500} to the churchyard"
    doc = nlp(text)
    (wordpieces,) = tokenizer([text])
    alignment = align(wordpieces, *token_offsets(doc))
    windows = cut_windows(alignment, len(wordpieces), doc_breaks(doc), 64, 8)
    assert bounds(windows) == [(0, 3), (3, 4), (4, 7)]
    check_windows(windows, alignment, len(wordpieces), 64)
