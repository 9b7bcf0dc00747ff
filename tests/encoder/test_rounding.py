"""Lengths are few, and little longer."""

from hypothesis import given
from hypothesis import strategies as st

from spacy_modernbert.encoder.rounding import round_up

LENGTHS = range(1, 16385)


@given(st.integers(0, 1 << 20))
def test_rounded_up_by_little(length):
    rounded = round_up(length)
    assert 0 <= rounded - length < max(64, length / 32 + 1)
    assert round_up(rounded) == rounded


def test_few():
    assert len({round_up(length) for length in LENGTHS}) <= 128
