"""What the tests of MLX share."""

import pytest

mx = pytest.importorskip("mlx.core", reason="needs MLX: pip install mlx")

from spacy_modernbert.encoder.backend import make_encoder  # noqa: E402
from spacy_modernbert.encoder.config import ModernBertConfig  # noqa: E402

from .util import state  # noqa: E402


def load(model, backend="mlx", **settings):
    """RETURNS (Encoder): Of the oracle's weights, in float32 if not said otherwise."""
    changes = settings.pop("changes", {})
    settings = {"precision": "float32", **settings}
    config = ModernBertConfig.from_dict({**model.config.to_dict(), **changes})
    return make_encoder(config, state(model), backend=backend, **settings)
