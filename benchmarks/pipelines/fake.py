"""An encoder that takes no time, to see what everything else costs."""

from typing import Any

import numpy as np

from spacy_modernbert.types import PackedBatch


class InstantEncoder:
    """Hands out rows of a table that was drawn once, and leaves all else to the encoder
    in whose place it is.

    encoder (Encoder): That encoder.
    """

    def __init__(self, encoder: Any):
        self._encoder = encoder
        self._vectors = draw_vectors(16384, encoder.config.hidden_size)

    def encode(self, batch: PackedBatch) -> Any:
        return self._vectors[: batch.total]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def draw_vectors(n_rows: int, width: int) -> Any:
    """RETURNS (Floats): `(n_rows, width)` float32."""
    return np.random.default_rng(0).standard_normal((n_rows, width), np.float32)
