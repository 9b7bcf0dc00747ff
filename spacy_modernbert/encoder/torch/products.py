"""Matrix products of NumPy arrays, computed by torch."""

from typing import Optional

import torch

from ...types import Floats


def multiply(left: Floats, right: Floats, out: Optional[Floats] = None) -> Floats:
    """Multiply two matrices, on torch's threads.

    left (Floats): `(n, k)`, of any strides.
    right (Floats): `(k, m)` of the same type.
    out (Optional[Floats]): `(n, m)`, where to write. If None, in a new array.
    RETURNS (Floats): `(n, m)`.
    RAISES (RuntimeError): If types or shapes do not match.
    """
    tensors = _as_tensor(left), _as_tensor(right)
    if out is None:
        product: Floats = torch.mm(*tensors).numpy()
        return product
    torch.mm(*tensors, out=torch.from_numpy(out))
    return out


def _as_tensor(array: Floats) -> torch.Tensor:
    # Torch does not read backwards, and warns of what must not be written to.
    if min(array.strides) < 0 or not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array)
