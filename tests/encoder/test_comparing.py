import math
from dataclasses import astuple

import numpy as np
import pytest

from spacy_modernbert.encoder.comparing import compare

from ..util import make_vectors


def test_equal_vectors() -> None:
    parity = compare(make_vectors(), make_vectors())
    assert astuple(parity) == pytest.approx((1.0, 1.0, 0.0))


def test_the_wordpiece_that_agrees_least() -> None:
    opposite = make_vectors()
    opposite[3] *= -1
    parity = compare(opposite, make_vectors())
    assert parity.least_cosine == pytest.approx(-1.0)
    assert parity.mean_cosine == pytest.approx(0.6)
    assert parity.most_error == pytest.approx(2 * np.abs(make_vectors()[3]).max())


def test_nan_is_told() -> None:
    """So a bound has to be tested as `not (error <= bound)`."""
    broken = make_vectors()
    broken[0, 0] = np.nan
    assert all(map(math.isnan, astuple(compare(broken, make_vectors()))))


def test_vectors_of_other_wordpieces_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare(make_vectors(4), make_vectors(5))
