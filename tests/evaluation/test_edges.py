import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.training import Example

from spacy_modernbert.documents.alignment import Alignment, align, token_offsets
from spacy_modernbert.documents.windows import Window, cut_windows, token_owners
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.evaluation.edges import NO_CUT, WindowCutter, cut_distances
from spacy_modernbert.layers.plan import make_plan
from spacy_modernbert.span_getters import LongContextSpans

from ..documents.toys import one_each
from ..util import make_text, make_tokenizer


def test_by_hand():
    """Ten tokens of a wordpiece each, in the windows [0, 6) and [4, 10)."""
    windows = [Window(0, 6, 0, 6), Window(4, 10, 4, 10)]
    distances = cut_distances(one_each(10), windows, 10)
    # Token 4 is 1 from the cut at 6 and 0 from that at 4; token 5 the other way round.
    assert distances.tolist() == [5, 4, 3, 2, 1, 1, 2, 3, 4, 5]


def test_no_cut():
    assert (cut_distances(one_each(3), [Window(0, 3, 0, 3)], 3) == NO_CUT).all()
    assert cut_distances(one_each(0), [], 0).size == 0


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.integers(6, 20),
    st.integers(0, 5),
)
def test_it_is_that_in_the_window_that_speaks(lengths, capacity, overlap):
    ends = np.cumsum(lengths)
    alignment = Alignment((ends - lengths).astype(np.int32), ends.astype(np.int32))
    n_pieces, n_tokens = int(ends[-1]), len(lengths)
    breaks = np.zeros(n_tokens, dtype=np.int8)
    windows = cut_windows(alignment, n_pieces, breaks, capacity, overlap)
    owners = token_owners(alignment, windows)
    distances = cut_distances(alignment, windows, n_pieces)
    for token, owner in enumerate(owners):
        window = windows[owner]
        edges = []
        if window.piece_start > 0:
            edges.append(alignment.starts[token] - window.piece_start)
        if window.piece_end < n_pieces:
            edges.append(window.piece_end - alignment.ends[token])
        assert distances[token] == (min(edges) if edges else NO_CUT)


@pytest.fixture(scope="module")
def cutter():
    return WindowCutter(WordpieceTokenizer(make_tokenizer()), window=64, overlap=16)


def test_windows_are_those_of_the_pipeline(cutter):
    nlp = spacy.blank("en")
    doc = nlp(make_text(0, n_sentences=30))
    (distances,) = cutter([Example(doc, doc.copy())])
    spans = LongContextSpans(64, 16)
    (windows,) = make_plan([doc], cutter.tokenizer, spans, 512, 512).windows
    assert len(windows) > 3
    (pieces,) = cutter.tokenizer([doc.text])
    alignment = align(pieces, *token_offsets(doc))
    wanted = cut_distances(alignment, windows, len(pieces))
    assert distances.tolist() == wanted.tolist() and len(wanted) == len(doc)
    # At a cut that no other window covers better, a token is near it; the first
    # tokens of the document are as far as the first window is long.
    assert distances.max() < 64
    assert distances[0] == distances[: windows[1].token_start].max()
    short = nlp("Anna Berg.")
    (distances,) = cutter([Example(short, short.copy())])
    assert (distances == NO_CUT).all()


def test_another_text(cutter):
    nlp = spacy.blank("en")
    assert cutter([Example(nlp("a b"), nlp("a  b"))]) == [None]
