"""Products of matrices, in the layers that are Thinc's own."""

from typing import Any, Optional, cast

from thinc.api import Model, MPSOps, NumpyOps
from thinc.types import Floats2d

from ..encoder.torch.products import multiply
from .workers import run_single_threaded_if_worker


class TorchProducts(NumpyOps):
    """Thinc's operations on NumPy arrays, but with matrix products by torch.

    Thinc's own products, by BLIS, run on one thread and, on many processors, use a
    generic kernel, at a third of the speed or less. NumPy's are as quick as torch's,
    but have threads of their own, which get in the way of torch's where torch trains
    the encoder.
    """

    def gemm(
        self,
        x: Any,
        y: Any,
        out: Optional[Any] = None,
        trans1: bool = False,
        trans2: bool = False,
    ) -> Floats2d:
        left, right = x.T if trans1 else x, y.T if trans2 else y
        return cast(Floats2d, multiply(left, right, out))


_TORCH = TorchProducts()


def multiply_by_torch(model: Model) -> None:
    """Make the layers of a model multiply matrices with torch. The results are the same
    up to rounding. Layers that are on a GPU, or have the ops of another package, are
    left as they are. In a worker process, torch is limited to one thread.

    model (Model): The model. spaCy puts new layers into that of a parser whenever it is
        given labels, so this is to be done before each use.
    """
    run_single_threaded_if_worker()
    for node in model.walk():
        # Not another subclass, which may have products of its own. Those of MPS are
        # NumPy's, unless thinc-apple-ops is installed.
        kind = type(node.ops)
        if kind in (NumpyOps, MPSOps) and kind.gemm is NumpyOps.gemm:
            node.ops = _TORCH
