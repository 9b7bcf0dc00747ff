"""The oracles are Thinc's own optimizer, on NumPy arrays, and the steps of torch."""

import numpy as np
import pytest
from thinc.api import SGD, Adam, Optimizer, RAdam

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.layers.optimizer import step_encoder
from spacy_modernbert.types import PackedBatch

from ..util import make_config
from .mlx_util import mx

OWNER = 7
STEPS = 50
CONFIG = make_config(num_hidden_layers=2, hidden_size=16, num_attention_heads=2)
SUFFIX = f"@mlx:{mx.default_device().type.name}"


def falling(first):
    return [first * 0.97**i for i in range(STEPS // 2)]  # and then the last of them


OPTIMIZERS = {
    "adam": lambda: Adam(0.01, use_averages=False),
    "no clipping": lambda: Adam(0.01, grad_clip=0.0, use_averages=False),
    "weight decay": lambda: Adam(0.01, L2=0.1, use_averages=False),
    "L2": lambda: Adam(0.01, L2=0.1, L2_is_weight_decay=False, grad_clip=0.05),
    "betas": lambda: Adam(0.01, beta1=0.5, beta2=0.9, eps=0.001),
    "schedules": lambda: Adam(
        falling(0.02),
        beta1=falling(0.9),
        beta2=falling(0.999),
        eps=falling(1e-3),
        L2=falling(0.2),
        grad_clip=falling(0.5),
    ),
    "radam": lambda: RAdam(0.01, L2=0.01),
    "sgd": lambda: SGD(0.1, L2=0.01, use_averages=True),
    "sgd, L2": lambda: SGD(0.1, L2=0.01, L2_is_weight_decay=False, grad_clip=0.3),
    "sgd with momentum alone": lambda: Optimizer(0.1, beta1=0.9, beta2=0.0),
}


class Foreign:
    """An optimizer that is used like Thinc's, but is none of its own kind."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __call__(self, key, weights, gradient, **scale):
        return self.optimizer(key, weights, gradient, **scale)


def make(backend="mlx", **changes):
    tensors = init_tensors(CONFIG, 0)
    settings = {"precision": "float32", **changes}
    return make_encoder(CONFIG, tensors, backend=backend, **settings)


def give_gradient(encoder, rng):
    ids = rng.integers(4, CONFIG.vocab_size, 24)
    batch = PackedBatch(ids, np.array([0, 10, 24], np.int32))
    d_out = rng.standard_normal((24, CONFIG.hidden_size)).astype(np.float32)
    _, backprop = encoder.encode_train(batch)
    backprop(d_out / np.float32(rng.integers(1, 100)))


def copied(tensors):
    return {name: np.array(tensor) for name, tensor in tensors.items()}


def assert_near(found, wanted, name):
    error = np.abs(np.array(found) - wanted).max() / np.abs(wanted).max()
    assert error <= 5e-6, f"{name}: off by {error}"


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_as_thinc(kind):
    found, wanted = OPTIMIZERS[kind](), OPTIMIZERS[kind]()
    rng = np.random.default_rng(0)
    encoder = make()
    weights = copied(encoder.tensors())
    for _ in range(STEPS):
        give_gradient(encoder, rng)
        for name, gradient in copied(encoder.gradients()).items():
            weights[name], _ = wanted((OWNER, name), weights[name], gradient)
        step_encoder(encoder, found, OWNER, layer_lr_decay=1.0)
        for optimizer in (found, wanted):
            optimizer.step_schedules()
    for name, tensor in encoder.tensors().items():
        assert_near(tensor, weights[name], name)
    for table in ("nr_update", "mom1", "mom2"):
        keys = {(owner, name + SUFFIX) for owner, name in getattr(wanted, table)}
        assert set(getattr(found, table)) == keys
    for name in weights:
        key = OWNER, name + SUFFIX
        assert found.nr_update[key] == wanted.nr_update[OWNER, name]
        if found.mom1:
            assert isinstance(found.mom1[key], mx.array)
            assert found.mom1[key].shape == (weights[name].size,)
    assert (found.averages is None) == (wanted.averages is None)
    for (owner, name), average in (wanted.averages or {}).items():
        assert_near(found.averages[owner, name + SUFFIX], average, name)


@pytest.mark.parametrize("kind", ["adam", "radam", "sgd"])
@pytest.mark.parametrize("frozen_layers", [0, 1])
def test_as_torch(kind, frozen_layers):
    """The same gradients and the same steps, lower layers more slowly."""
    encoders = [make(name, frozen_layers=frozen_layers) for name in ("mlx", "cpu")]
    for encoder in encoders:
        rng, optimizer = np.random.default_rng(0), OPTIMIZERS[kind]()
        for _ in range(5):
            give_gradient(encoder, rng)
            step_encoder(encoder, optimizer, OWNER, layer_lr_decay=0.5)
    before = init_tensors(CONFIG, 0)
    found, wanted = (encoder.tensors() for encoder in encoders)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-4, err_msg=name)
        is_frozen = frozen_layers and name.startswith(("embeddings.", "layers.0."))
        assert (found[name] == before[name]).all() == bool(is_frozen)


def test_other_optimizers_get_numpy_arrays():
    encoders = make(), make()
    optimizers = Adam(0.01), Foreign(Adam(0.01))
    for encoder, optimizer in zip(encoders, optimizers, strict=True):
        rng = np.random.default_rng(0)
        for _ in range(3):
            give_gradient(encoder, rng)
            step_encoder(encoder, optimizer, OWNER, layer_lr_decay=0.5)
    found, wanted = (encoder.tensors() for encoder in encoders)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5, err_msg=name)


def test_a_step_forgets_the_gradients():
    encoder, optimizer = make(), Adam(0.01)
    give_gradient(encoder, np.random.default_rng(0))
    step_encoder(encoder, optimizer, OWNER, layer_lr_decay=1.0)
    assert not any(gradient.any() for gradient in encoder.gradients().values())
    before = copied(encoder.tensors())
    step_encoder(encoder, optimizer, OWNER, layer_lr_decay=1.0)
    for name, tensor in encoder.tensors().items():
        np.testing.assert_array_equal(tensor, before[name])
