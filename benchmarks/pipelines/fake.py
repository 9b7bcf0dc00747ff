"""An encoder that takes no time, to see what everything else costs."""

from typing import Any

import numpy as np
import torch

from spacy_modernbert.encoder.protocol import Encoder
from spacy_modernbert.encoder.torch.encoder import TorchEncoder


def make_instant(encoder: Encoder, n_rows: int = 16384) -> None:
    """Have an encoder give rows of a table, instead of what its layers make of a batch.
    What it does with them (pooling, the copy to the host) it does as ever.

    encoder (Encoder): The encoder, of any backend. Changed.
    n_rows (int): The most wordpieces of a batch.
    """
    vectors = draw_vectors(n_rows, encoder.config.hidden_size)
    changed: Any = encoder  # a method of it is replaced
    if isinstance(encoder, TorchEncoder):
        table = torch.from_numpy(vectors).to(encoder._device)
        changed._predict = lambda batch: table[: batch.total]
    else:  # others pool on the host
        changed.encode = lambda batch: vectors[: batch.total]


def draw_vectors(n_rows: int, width: int) -> Any:
    """RETURNS (Floats): `(n_rows, width)` float32."""
    return np.random.default_rng(0).standard_normal((n_rows, width), np.float32)
