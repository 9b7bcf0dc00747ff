from pathlib import Path

from benchmarks.quantized import measure
from spacy_modernbert.encoder.quantize import Scheme


def test_fewer_bits_are_smaller_and_farther_off(checkpoint: Path) -> None:
    eight, four = (measure(checkpoint, Scheme(bits, 32)) for bits in (8, 4))
    assert four["size"] < eight["size"] < 0.5
    assert four["least_cosine"] < eight["least_cosine"] < 1
    assert eight["least_cosine"] > 0.99
