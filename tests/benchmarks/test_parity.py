import numpy as np

from benchmarks.parity import objection
from spacy_modernbert.encoder.comparing import compare


def draw(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)


def test_what_agrees_is_not_objected_to() -> None:
    vectors = draw()
    parity = compare(vectors + 1e-6, vectors)
    assert parity.least_cosine > 0.999999
    assert objection(parity, "float32") == ""


def test_one_wrong_wordpiece_is_enough() -> None:
    wrong = draw()
    wrong[3] = wrong[2]
    parity = compare(wrong, draw())
    for precision in ("float32", "bfloat16", "int8"):
        assert objection(parity, precision).startswith("wrong vectors: cosine")


def test_a_wrong_scale_is_wrong_in_float32() -> None:
    parity = compare(draw() * 1.01, draw())
    assert objection(parity, "float32").startswith("wrong vectors: off by")


def test_nan_is_wrong() -> None:
    wrong = draw()
    wrong[0, 0] = np.nan
    assert objection(compare(wrong, draw()), "int8")
