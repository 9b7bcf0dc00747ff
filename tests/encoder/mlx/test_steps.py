"""The oracles are Thinc's own optimizer, on NumPy arrays, and the steps of torch."""

import numpy as np
import pytest
from thinc.api import Adam

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.layers.optimizer import step_encoder

from ...optimizers import (
    OPTIMIZERS,
    OWNER,
    Foreign,
    assert_near,
    copied,
    follow_thinc,
    give_gradient,
)
from ...util import gradients_of, make_config
from .util import mx

CONFIG = make_config(num_hidden_layers=2, hidden_size=16, num_attention_heads=2)
SUFFIX = f"@mlx:{mx.default_device().type.name}"


def make(backend="mlx", **changes):
    tensors = init_tensors(CONFIG, 0)
    settings = {"precision": "float32", **changes}
    return make_encoder(CONFIG, tensors, backend=backend, **settings)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_as_thinc(kind):
    encoder = make()
    found, wanted = follow_thinc(encoder, kind)
    for table in ("nr_update", "mom1", "mom2"):
        keys = {(owner, name + SUFFIX) for owner, name in getattr(wanted, table)}
        assert set(getattr(found, table)) == keys
    for name, tensor in encoder.tensors().items():
        key = OWNER, name + SUFFIX
        assert found.nr_update[key] == wanted.nr_update[OWNER, name]
        if found.mom1:
            assert isinstance(found.mom1[key], mx.array)
            assert found.mom1[key].shape == (tensor.size,)
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
    assert not any(gradient.any() for gradient in gradients_of(encoder).values())
    before = copied(encoder.tensors())
    step_encoder(encoder, optimizer, OWNER, layer_lr_decay=1.0)
    for name, tensor in encoder.tensors().items():
        np.testing.assert_array_equal(tensor, before[name])
