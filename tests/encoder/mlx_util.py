"""What the tests of MLX share."""

from functools import partial

import pytest

mx = pytest.importorskip("mlx.core", reason="needs MLX: pip install mlx")

from . import util  # noqa: E402

# By MLX if not said otherwise.
load = partial(util.load, backend="mlx")
