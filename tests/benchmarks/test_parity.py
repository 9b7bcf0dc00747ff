import numpy as np

from benchmarks.parity import objection
from spacy_modernbert.encoder.comparing import compare

from ..util import make_vectors


def test_what_agrees_is_not_objected_to() -> None:
    vectors = make_vectors()
    parity = compare(vectors + 1e-6, vectors)
    assert parity.least_cosine > 0.999999
    assert objection(parity, "float32") == ""


def test_one_wrong_wordpiece_is_enough() -> None:
    wrong = make_vectors()
    wrong[3] = wrong[2]
    parity = compare(wrong, make_vectors())
    for precision in ("float32", "bfloat16", "int8"):
        assert objection(parity, precision).startswith("wrong vectors: cosine")


def test_a_wrong_scale_is_wrong_in_float32() -> None:
    parity = compare(make_vectors() * 1.01, make_vectors())
    assert objection(parity, "float32").startswith("wrong vectors: off by")


def test_nan_is_wrong() -> None:
    wrong = make_vectors()
    wrong[0, 0] = np.nan
    assert objection(compare(wrong, make_vectors()), "int8")
