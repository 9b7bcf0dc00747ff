import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_modernbert.documents.breaks import doc_breaks

from .toys import texts


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        ("One", [2]),
        ("One. Two", [0, 1, 2]),
        ("Mr. D met 3.5 men", [0, 0, 0, 0, 2]),
        ('"One." Two', [0, 0, 0, 1, 2]),
        ('One. "Two', [0, 1, 0, 2]),
        ("(One?!) Two", [0, 0, 0, 0, 1, 2]),
        ("a\n\nb", [0, 2, 2]),
        ("a\nb", [0, 0, 2]),
        ("a \n \n b", [0, 2, 2]),
        ("a\r\nb", [0, 0, 2]),
        ("a\r\n\r\nb", [0, 2, 2]),
        ("a\r\rb", [0, 2, 2]),
        ("a\u2029b", [0, 2, 2]),
        ("a\u2028b", [0, 0, 2]),
        ("\n\na", [2, 2]),
        ("a\n\n", [0, 2]),
        ("One.\n\nTwo. Three", [0, 1, 2, 0, 1, 2]),
    ],
)
def test_breaks(nlp, text, expected):
    doc = nlp(text)
    assert len(doc) == len(expected), [token.text for token in doc]
    breaks = doc_breaks(doc)
    assert breaks.dtype == np.int8
    assert breaks.tolist() == expected


def test_breaks_of_annotated_sentences(nlp):
    words = ["One", ".", "two", "three"]
    doc = Doc(nlp.vocab, words=words, sent_starts=[True, False, False, True])
    assert doc_breaks(doc).tolist() == [0, 0, 1, 2]


def test_breaks_across_whitespace_tokens(nlp):
    words = ["a", "\n", "\n", "b"]
    doc = Doc(nlp.vocab, words=words, spaces=[False] * 4)
    assert doc_breaks(doc).tolist() == [0, 0, 2, 2]


def test_no_paragraph_ends_inside_a_token(nlp):
    doc = Doc(nlp.vocab, words=["a\n\nb", "c"], spaces=[True, False])
    assert doc_breaks(doc).tolist() == [0, 2]


@given(st.data())
def test_breaks_of_any_text(nlp, data):
    doc = nlp(data.draw(texts))
    breaks = doc_breaks(doc)
    assert breaks.shape == (len(doc),)
    assert set(breaks.tolist()) <= {0, 1, 2}
