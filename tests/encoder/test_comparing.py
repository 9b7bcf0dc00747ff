import math
from dataclasses import astuple

import numpy as np
import pytest

from spacy_modernbert.encoder.comparing import compare


def draw(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)


def test_equal_vectors() -> None:
    parity = compare(draw(), draw())
    assert astuple(parity) == pytest.approx((1.0, 1.0, 0.0))


def test_the_wordpiece_that_agrees_least() -> None:
    opposite = draw()
    opposite[3] *= -1
    parity = compare(opposite, draw())
    assert parity.least_cosine == pytest.approx(-1.0)
    assert parity.mean_cosine == pytest.approx(0.6)
    assert parity.most_error == pytest.approx(2 * np.abs(draw()[3]).max())


def test_nan_is_told() -> None:
    """So a bound has to be tested as `not (error <= bound)`."""
    broken = draw()
    broken[0, 0] = np.nan
    assert all(map(math.isnan, astuple(compare(broken, draw()))))


def test_vectors_of_other_wordpieces_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare(draw(4), draw(5))
