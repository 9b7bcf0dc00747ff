import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.pretraining.sequences import (
    TokenizedTexts,
    cut,
    stream,
    tokenize,
)

from ..documents.toys import toy
from ..encoder.util import make_byte_tokenizer

PREFIX, SUFFIX = np.array([1], np.int32), np.array([2], np.int32)
TEXTS = st.lists(st.integers(1, 60), min_size=1, max_size=5).map(
    lambda lengths: TokenizedTexts(
        tuple(np.arange(5, 5 + n, dtype=np.int32) for n in lengths), PREFIX, SUFFIX
    )
)


@given(TEXTS, st.integers(4, 40), st.integers(0, 99))
def test_nothing_is_left_out(texts, length, seed):
    sequences = cut(texts, length, np.random.default_rng(seed))
    assert all(3 <= len(each) <= length for each in sequences)
    assert all(each[0] == 1 and each[-1] == 2 for each in sequences)
    inner = np.concatenate([each[1:-1] for each in sequences])
    np.testing.assert_array_equal(inner, np.concatenate(texts.ids))


def test_a_stream_can_be_repeated_and_changes_with_the_epoch():
    texts = TokenizedTexts((np.arange(5, 205, dtype=np.int32),), PREFIX, SUFFIX)

    def take(seed, n):
        batches = itertools.islice(stream(texts, 20, 40, [seed]), n)
        return [batch.ids.tolist() for batch in batches]

    assert take(0, 30) == take(0, 30)
    assert take(0, 30) != take(1, 30)
    assert take(0, 6) != take(0, 12)[6:]


def test_wordpieces_are_those_of_the_documents():
    tokenizer = WordpieceTokenizer(make_byte_tokenizer())
    texts = ["One [SEP] two.", "Ünïcode 🐈", "x" * 50] * 7
    found = tokenize(texts, tokenizer)
    for ids, pieces in zip(found.ids, tokenizer(texts), strict=True):
        np.testing.assert_array_equal(ids, pieces.ids)
    assert (found.prefix.tolist(), found.suffix.tolist()) == ([1], [2])


def test_special_tokens_that_the_model_knows_are_those_of_the_documents():
    """A Unigram model finds them in the text."""
    tokenizer = toy("unigram")
    texts = ["a<s>a</s>", "the london", "</s>"]
    found = tokenize(texts, tokenizer)
    for ids, pieces in zip(found.ids, tokenizer(texts), strict=True):
        np.testing.assert_array_equal(ids, pieces.ids)
        assert not set(ids) & set(tokenizer.special_ids)
