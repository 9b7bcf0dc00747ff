"""The matrix products of a layer, and nothing else: the limit of every encoder."""

from pathlib import Path
from typing import Callable, List

import torch
import torch.nn.functional as F
from torch import Tensor

from spacy_modernbert.encoder.checkpoint import load_config

from ..devices import wait_for
from ..flops import projections
from ..points import Point, Unavailable
from . import Job

# A pass does the products again and again until about so many operations are done.
_OPERATIONS = {"cpu": 4e10, "mps": 4e11, "cuda": 4e13}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def make(point: Point) -> Job:
    config = load_config(Path(point.folder))
    n_rows = point.work["rows"]
    device = torch.device(point.peer.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Unavailable("torch finds no CUDA device")
    products = [
        _product(n_rows, n_in, n_out, point.peer.precision, device)
        for n_in, n_out in projections(config)
    ]
    once = sum(2 * n_rows * n_in * n_out for n_in, n_out in projections(config))
    repeats = max(1, round(_OPERATIONS[device.type] * point.work["share"] / once))

    def run() -> None:
        with torch.inference_mode():
            for _ in range(repeats):
                for product in products:
                    product()
        wait_for(device.type)

    products[0]()
    return Job(run=run, vectors=None, facts={"operations": repeats * once})


def _product(
    n_rows: int, n_in: int, n_out: int, precision: str, device: torch.device
) -> Callable[[], Tensor]:
    """One projection, its weights `(out, in)` as every peer has them."""
    dtype = _DTYPES[precision]
    shapes = ((n_rows, n_in), (n_out, n_in))
    made: List[Tensor] = [
        torch.randint(-100, 100, shape, device=device).to(dtype)
        if dtype == torch.int8
        else torch.randn(shape, device=device, dtype=dtype)
        for shape in shapes
    ]
    x, weights = made
    if dtype == torch.int8:
        return lambda: torch._int_mm(x, weights.T)
    return lambda: F.linear(x, weights)
