import pytest
import torch

from spacy_modernbert.pretraining.optimizers import Muon, make_optimizers, orthogonalize
from spacy_modernbert.pretraining.run import Pretraining

from .util import make_settings

SHAPES = ((32, 8), (8, 32), (16, 16), (8, 32))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_singular_values_end_near_1(shape):
    torch.manual_seed(0)
    made = orthogonalize(torch.randn(3, *shape))
    values = torch.linalg.svdvals(made)
    assert made.shape == (3, *shape)
    assert values.min() > 0.5 and values.max() < 1.3


def test_no_gradient_no_step():
    assert not orthogonalize(torch.zeros(1, 4, 8)).any()
    weights = torch.nn.Parameter(torch.ones(4, 8))
    Muon([weights], lr=0.1, weight_decay=0.1).step()
    assert (weights == 1).all()


def test_steps_as_torch_does():
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    ours, theirs = ([torch.nn.Parameter(each.clone()) for each in start] for _ in "ab")
    optimizers = (
        Muon(ours, lr=0.02, weight_decay=0.1),
        torch.optim.Muon(
            theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
    )
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        # torch's is in bfloat16.
        moved = (other - before).norm()
        assert (mine - other).norm() < 0.02 * moved


def test_each_parameter_is_stepped_by_one(paths, tmp_path):
    run = Pretraining(make_settings(paths, optimizer="muon"), tmp_path)
    adamw, muon = make_optimizers(run.model, run.settings, torch.float32)
    stepped = [
        [each for group in optimizer.param_groups for each in group["params"]]
        for optimizer in (adamw, muon)
    ]
    ids = [id(each) for part in stepped for each in part]
    assert sorted(ids) == sorted(map(id, run.model.parameters()))
    assert all(each.ndim == 2 for each in stepped[1])
    assert all(each is not run.model.table for each in stepped[1])
    assert len(make_optimizers(run.model, make_settings(paths), torch.float32)) == 1
