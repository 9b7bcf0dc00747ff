"""Whether the weights of an encoder are those that something else was saved with.

The final norm stands for all of them: each step of training moves it, however many
layers are frozen; it is small, and is never quantized.
"""

from typing import Mapping

import numpy as np

from ..types import Floats

_NAME = "final_norm.weight"


def identify(tensors: Mapping[str, Floats]) -> bytes:
    """RETURNS (bytes): What tells the weights of an encoder from those before and after
    a step of training.
    """
    return np.ascontiguousarray(tensors[_NAME], "<f4").tobytes()


def is_identified(tensors: Mapping[str, Floats], identity: bytes) -> bool:
    """Whether weights are those that something is known of.

    tensors (Mapping[str, Floats]): The weights.
    identity (bytes): What `identify` gave.
    RETURNS (bool): Whether they are, exactly or rounded to half precision.
    """
    found = np.asarray(tensors[_NAME])
    if len(identity) % 4:  # of no float32: the file that it was in is damaged
        return False
    saved = np.frombuffer(identity, "<f4")
    return any(
        np.array_equal(found, each)
        for each in (saved, saved.astype(np.float16), _to_bfloat16(saved))
    )


def _to_bfloat16(numbers: Floats) -> Floats:
    """RETURNS (Floats): The numbers rounded to bfloat16, halves to even; as float32."""
    bits = numbers.view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view("<f4")
