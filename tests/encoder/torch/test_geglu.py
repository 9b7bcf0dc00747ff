import torch
import torch.nn.functional as F

from spacy_modernbert.encoder.torch.geglu import geglu, geglu_


def draw():
    torch.manual_seed(0)
    return 3 * torch.randn(20, 12, dtype=torch.float64)


def test_value_and_gradient():
    x = draw().requires_grad_()
    value, gate = x.chunk(2, dim=-1)
    wanted = F.gelu(value) * gate
    torch.testing.assert_close(geglu(x), wanted)
    d_gated = torch.randn_like(wanted)
    (found,) = torch.autograd.grad(geglu(x), x, d_gated)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, x, d_gated)[0])


def test_in_place():
    x = draw()
    wanted = geglu(x)
    torch.testing.assert_close(geglu_(x), wanted)
    torch.testing.assert_close(x[:, :6], wanted)


def test_no_more_is_kept_than_went_in():
    x = draw().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        geglu(x)
    (tensor,) = kept
    assert tensor.data_ptr() == x.data_ptr()
