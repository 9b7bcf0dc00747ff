import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_modernbert.documents.alignment import Alignment, align, token_offsets
from spacy_modernbert.documents.wordpieces import Wordpieces, trim

from .toys import (
    FRAGMENTS,
    TEXT,
    check_alignment,
    ranges,
    slow_align,
    spans,
    texts,
    token_spans,
    toy,
    uncovered_tokens,
)


def test_no_token_takes_a_piece_of_its_neighbour(nlp, tokenizer):
    """Untrimmed, four tokens of five take the first wordpiece of the next word."""
    doc = nlp(TEXT)
    (wordpieces,) = tokenizer([doc.text])
    alignment = align(wordpieces, *token_offsets(doc))
    for token, (start, end) in zip(doc, ranges(alignment), strict=True):
        if token.is_space:
            continue
        assert start < end
        assert wordpieces.starts[start] < token.idx + len(token)
        assert wordpieces.ends[end - 1] > token.idx
        if tokenizer is toy("byte_level"):
            # A wordpiece can join tokens (`?"`), but only where no space is between.
            own = spans(wordpieces.starts[start:end], wordpieces.ends[start:end])
            assert not any(" " in doc.text[a:b] for a, b in own)


@pytest.mark.parametrize(
    "text", ["か\u3099", "\u1112\u1161\u11ab", "=\u0338b", "xe\u0301", "a\u0301\u0301"]
)
def test_composed_characters_own_what_they_were_composed_of(tokenizer, text):
    (wordpieces,) = tokenizer([text])
    tokens = [(i, i + 1) for i in range(len(text))]
    starts, ends = np.array(tokens).T
    assert not uncovered_tokens(align(wordpieces, starts, ends)).size
    check_alignment(text, wordpieces, tokens)


def test_gaps_of_control_characters_stay_open():
    (wordpieces,) = toy("bert")(["the\x00\x01 the"])
    tokens = np.array([(0, 3), (3, 5), (6, 9)])
    alignment = align(wordpieces, *tokens.T)
    assert uncovered_tokens(alignment).tolist() == [1]


def test_bytes_of_a_run_of_unknown_characters_are_told_apart():
    text = "the 🙂🙃é the"
    (wordpieces,) = toy("unigram")([text])
    starts, ends = np.array([(i, i + 1) for i in range(4, 7)]).T
    assert align(wordpieces, starts, ends).lengths.tolist() == [4, 4, 2]


def test_many_unknown_characters_do_not_own_each_other():
    (wordpieces,) = toy("unigram")(["🙂" * 1000])
    at = np.arange(1000)
    assert align(wordpieces, at, at + 1).lengths.sum() <= 4 * 1000 + 2


def test_literal_alignment():
    """The example of the docstring."""
    text = "in  London"
    raw_starts, raw_ends = np.array([0, 2, 3]), np.array([2, 3, 10])
    wordpieces = trim(text, np.arange(3), raw_starts, raw_ends)
    assert spans(wordpieces.starts, wordpieces.ends) == [(0, 2), (2, 3), (4, 10)]
    alignment = align(wordpieces, np.array([0, 3, 4]), np.array([2, 4, 10]))
    assert ranges(alignment) == [(0, 1), (2, 3), (2, 3)]


def test_literal_uncovered():
    text = "a\x00b\x00"
    pieces = trim(text, np.arange(2), np.array([0, 2]), np.array([1, 3]))
    alignment = align(pieces, np.arange(4), np.arange(4) + 1)
    assert ranges(alignment) == [(0, 1), (1, 1), (1, 2), (2, 2)]
    assert uncovered_tokens(alignment).tolist() == [1, 3]


@settings(max_examples=150)
@given(texts, st.data())
def test_alignment_equals_slow_reference(tokenizer, text, data):
    (wordpieces,) = tokenizer([text])
    check_alignment(text, wordpieces, token_spans(text, data.draw))


@given(st.data())
def test_alignment_of_spacy_docs(tokenizer, nlp, data):
    text = data.draw(texts)
    doc = nlp(text)
    (wordpieces,) = tokenizer([doc.text])
    check_alignment(text, wordpieces, spans(*token_offsets(doc)))


@pytest.mark.parametrize("text", FRAGMENTS)
def test_alignment_of_characters(tokenizer, text):
    (wordpieces,) = tokenizer([text])
    check_alignment(text, wordpieces, [(i, i + 1) for i in range(len(text))])


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n \n", " " * 100_000, "a" * 50_000, "é" * 50_000, "\x00" * 1_000],
    ids=["empty", "space", "lines", "spaces", "long", "long_é", "nul"],
)
def test_alignment_of_extremes(tokenizer, text):
    (wordpieces,) = tokenizer([text])
    starts, ends = np.array([(0, len(text))] if text else []).reshape(-1, 2).T
    alignment = align(wordpieces, starts, ends)
    if not text:
        assert len(wordpieces) == len(alignment) == 0
    else:
        assert ranges(alignment) == [(0, len(wordpieces))]


def test_characters_as_tokens_of_a_language_without_spaces(tokenizer):
    nlp = spacy.blank("zh")  # a token for every character
    doc = nlp("か\u3099\u1112\u1161\u11abと東京 ab")
    (wordpieces,) = tokenizer([doc.text])
    alignment = align(wordpieces, *token_offsets(doc))
    assert not uncovered_tokens(alignment).size


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(0, 3))),
    st.lists(st.integers(1, 4), max_size=8),
)
def test_alignment_of_offsets_that_do_not_rise(pieces, lengths):
    """No tokenizer gives such offsets. Even so, no token goes without."""
    pieces = np.array(pieces, dtype=np.int64).reshape(-1, 3)
    raw_starts, raw_ends = pieces[:, 0], pieces[:, 0] + pieces[:, 1]
    starts = np.minimum(raw_starts + pieces[:, 2], raw_ends)
    wordpieces = Wordpieces(pieces[:, 0], starts, raw_ends, raw_starts, raw_ends)
    token_ends = np.cumsum(lengths, dtype=np.int64)
    tokens = [(int(e - n), int(e)) for e, n in zip(token_ends, lengths, strict=True)]
    alignment = align(wordpieces, token_ends - lengths, token_ends)
    raw, trimmed = spans(raw_starts, raw_ends), spans(starts, raw_ends)
    for i, (start, end) in enumerate(ranges(alignment)):
        assert slow_align(trimmed, trimmed, tokens)[i] <= set(range(start, end))
        assert start < end or not slow_align(raw, trimmed, tokens)[i]
    assert (np.diff(alignment.starts) >= 0).all()
    assert (np.diff(alignment.ends) >= 0).all()
    assert (alignment.starts <= alignment.ends).all()


def test_alignment_of_no_tokens():
    (wordpieces,) = toy("byte_level")(["the"])
    alignment = align(wordpieces, np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert isinstance(alignment, Alignment)
    assert len(alignment) == 0
    assert uncovered_tokens(alignment).size == 0


@given(st.data())
def test_token_offsets(nlp, data):
    doc = nlp(data.draw(texts))
    starts, ends = token_offsets(doc)
    assert starts.dtype == ends.dtype == np.int32
    assert starts.tolist() == [token.idx for token in doc]
    assert ends.tolist() == [token.idx + len(token) for token in doc]


def test_token_offsets_after_merging(nlp):
    doc = nlp("David Copperfield went to  London.")
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:2])
    starts, ends = token_offsets(doc)
    words = [doc.text[a:b] for a, b in spans(starts, ends)]
    assert words == [token.text for token in doc]


def test_token_offsets_of_an_empty_doc(nlp):
    starts, ends = token_offsets(Doc(nlp.vocab))
    assert starts.shape == ends.shape == (0,)
