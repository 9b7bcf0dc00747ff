import pytest
import torch
import torch.nn.functional as F

from spacy_modernbert.encoder.torch.projection import multiply_in_parts

from .util import assert_same_gradients


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("n", [1, 4, 7, 100])
def test_parts(has_bias, n):
    """The same, with gradients whose sums are no longer than the parts."""
    torch.manual_seed(0)
    sizes = (7, 5), (10, 5), (10,)
    x, weight, bias = (torch.randn(size, requires_grad=True) for size in sizes)
    leaves = [x, weight, bias] if has_bias else [x, weight]
    given = bias if has_bias else None
    wanted, found = F.linear(x, weight, given), multiply_in_parts(x, weight, given, n)
    torch.testing.assert_close(found, wanted)
    assert_same_gradients(found, wanted, leaves)
