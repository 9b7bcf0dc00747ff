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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_settings_of_adamw(paths, tmp_path, optimizer):
    """Vectors do not decay."""
    told = make_settings(
        paths, optimizer=optimizer, weight_decay=0.3, beta1=0.8, beta2=0.9, eps=1e-5
    )
    adamw, *_ = make_optimizers(Pretraining(told, tmp_path).model, told, torch.float32)
    matrices, vectors = adamw.param_groups
    assert {each.ndim for each in matrices["params"]} == {2}
    assert {each.ndim for each in vectors["params"]} == {1}
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    for group in (matrices, vectors):
        assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-5)


def test_a_step_is_of_the_schedule(paths, tmp_path):
    run = Pretraining(make_settings(paths, optimizer="muon"), tmp_path)
    report = next(run.steps())
    assert 0 < report.learn_rate < run.settings.learn_rate
    groups = [group for each in run._optimizers for group in each.param_groups]
    assert {group["lr"] for group in groups} == {report.learn_rate}


def test_gradients_are_clipped(paths, tmp_path):
    """By the norm of all of them, as the means that AdamW keeps show."""
    norms = []
    for clip in (1e3, 1e-3):
        run = Pretraining(make_settings(paths, grad_clip=clip), tmp_path)
        next(run.steps())
        (adamw,) = run._optimizers
        means = [adamw.state[each]["exp_avg"] for each in run.model.parameters()]
        norm = sum(mean.square().sum() for mean in means).sqrt().item()
        norms.append(norm / (1 - run.settings.beta1))
    assert 0.01 < norms[0] < 1e3 and norms[1] == pytest.approx(1e-3, rel=0.01)
