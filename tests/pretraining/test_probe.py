import numpy as np
import pytest

from spacy_modernbert.pretraining.masking import Masking
from spacy_modernbert.pretraining.probe import mask_texts, unigram_baseline
from spacy_modernbert.pretraining.sequences import TokenizedTexts

MASKING = Masking(0.3, 4, np.arange(5), 300)


def mask(lengths, length):
    """RETURNS (List[Tuple[int, int]]): Of each sequence, which text it is of and how
    long it is."""
    texts = TokenizedTexts(
        tuple(np.full(n, 10 + i, np.int32) for i, n in enumerate(lengths)),
        np.array([1], np.int32),
        np.array([2], np.int32),
    )
    batches = mask_texts(texts, MASKING, length, 10_000, seed=0)
    for masked in batches:
        masked.batch.ids[masked.positions] = masked.targets
    return [(int(m.batch.ids[1]) - 10, m.batch.total) for m in batches]


def test_short_texts_are_masked_beside_long_ones():
    assert mask([30, 500, 7], length=64) == [
        (0, 32),
        *[(1, 64)] * 7,  # without what is left at its ends
        (2, 9),
    ]


def test_short_texts_alone():
    assert mask([30, 7], length=64) == [(0, 32), (1, 9)]


def test_unigram_baseline():
    loss, accuracy = unigram_baseline(np.array([2, 2, 2]), np.array([2, 0]), 3)
    # Each is counted once more: shares 1/6, 1/6, 4/6.
    assert loss == pytest.approx(-(np.log(4 / 6) + np.log(1 / 6)) / 2)
    assert accuracy == 0.5
