"""What the tests of MLX share."""

from functools import partial

import numpy as np

from ...util import require

mx = require("mlx.core", reason="needs MLX: pip install mlx")

from .. import util  # noqa: E402

# By MLX if not said otherwise.
load = partial(util.load, backend="mlx")


def assert_share(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    """Within a thousandth of the largest value, however small that is."""
    assert found.shape == wanted.shape, what
    error = np.abs(found - wanted).max()
    assert error <= 1e-3 * np.abs(wanted).max(), f"{what}: off by {error}"


assert_gradients = partial(util.assert_gradients, assert_gradient=assert_share)
assert_parity = partial(util.assert_parity, assert_gradient=assert_share)
