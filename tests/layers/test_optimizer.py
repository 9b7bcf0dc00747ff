"""The oracle is Thinc's own optimizer, on NumPy arrays."""

import numpy as np
import pytest
from thinc.api import SGD, Adam, RAdam

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.steps import StepSettings, lr_scale
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.layers.optimizer import (
    find_params,
    read_settings,
    state_of,
    step_encoder,
)

from ..optimizers import (
    OPTIMIZERS,
    OWNER,
    STEPS,
    Foreign,
    assert_near,
    copied,
    draw_pass,
    follow_thinc,
    give_gradient,
)
from ..util import gradients_of, make_config

CONFIG = make_config()


def make(**changes):
    return make_encoder(CONFIG, init_tensors(CONFIG, 0), backend="cpu", **changes)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_as_thinc(kind):
    steps = 50 if kind == "adam" else STEPS
    found, wanted = follow_thinc(make(), kind, steps)
    assert found.nr_update == wanted.nr_update
    assert set(found.mom1) == set(wanted.mom1) and set(found.mom2) == set(wanted.mom2)
    assert (found.averages is None) == (wanted.averages is None)
    for key, average in (wanted.averages or {}).items():
        assert_near(found.averages[key], average, key)


@pytest.mark.parametrize("kind", ["adam", "schedules", "sgd"])
def test_layers_learn_as_by_thincs_lr_scale(kind):
    optimizers = OPTIMIZERS[kind](), Foreign(OPTIMIZERS[kind]())
    encoders = make(), make()
    for encoder, optimizer in zip(encoders, optimizers, strict=True):
        rng = np.random.default_rng(0)
        for _ in range(3):
            give_gradient(encoder, rng)
            step_encoder(encoder, optimizer, OWNER, layer_lr_decay=0.5)
    found, wanted = (encoder.tensors() for encoder in encoders)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(found[name], tensor, atol=1e-5, err_msg=name)


def test_lower_layers_learn_more_slowly():
    """By plain SGD, the way of a weight is its gradient times its learning rate."""
    encoder = make()
    give_gradient(encoder, np.random.default_rng(0))
    before, gradients = copied(encoder.tensors()), gradients_of(encoder)
    step_encoder(encoder, SGD(0.1, grad_clip=0.0), OWNER, layer_lr_decay=0.5)
    rates = {
        "embeddings.tok_embeddings.weight": 0.1 / 16,
        "embeddings.norm.weight": 0.1 / 16,
        "layers.0.attn.Wqkv.weight": 0.1 / 8,
        "layers.1.attn_norm.weight": 0.1 / 4,
        "layers.2.mlp.Wo.weight": 0.1 / 2,
        "final_norm.weight": 0.1,
    }
    for name, rate in rates.items():
        wanted = before[name] - rate * gradients[name]
        np.testing.assert_allclose(encoder.tensors()[name], wanted, atol=1e-6)
        assert gradients[name].any()


def test_radam_heeds_the_layers_too():
    """Thinc's own does not: it takes `lr_scale`, and uses it for weight decay only."""
    ways = []
    for decay in (1.0, 0.5):
        encoder = make()
        give_gradient(encoder, np.random.default_rng(0))
        name, before = "layers.2.mlp.Wo.weight", copied(encoder.tensors())
        step_encoder(encoder, RAdam(0.01), OWNER, layer_lr_decay=decay)
        ways.append(encoder.tensors()[name] - before[name])
    np.testing.assert_allclose(ways[1], ways[0] / 2, atol=1e-6)


def test_what_is_remembered_is_the_optimizers():
    """A new one starts from scratch, and the encoder gives each its own memory."""
    encoder, rng = make(), np.random.default_rng(0)
    first, second = Adam(0.01), Adam(0.01)
    for optimizer in (first, first, second):
        give_gradient(encoder, rng)
        step_encoder(encoder, optimizer, OWNER, layer_lr_decay=1.0)
    keys = {(OWNER, name) for name in encoder.tensors()}
    for optimizer, n_steps in ((first, 2), (second, 1)):
        assert set(optimizer.nr_update.values()) == {n_steps}
        for table in (optimizer.mom1, optimizer.mom2, optimizer.averages):
            assert set(table) == keys
    key = OWNER, "final_norm.weight"
    assert first.mom1[key] is not second.mom1[key]


def test_state_is_a_view():
    optimizer = Adam(0.01, use_averages=False)
    state = state_of(optimizer, OWNER, "cpu")
    assert state.averages is None
    assert "a" not in state.n_steps and not optimizer.nr_update
    state.n_steps["a"] = 3
    optimizer.nr_update[OWNER + 1, "b"] = 4
    assert optimizer.nr_update[OWNER, "a"] == 3
    assert dict(state.n_steps) == {"a": 3} and len(state.n_steps) == 1
    del state.n_steps["a"]
    assert not state.n_steps


def test_thinc_and_the_encoder_share_the_state():
    """`nlp.rehearse` has Thinc step the weights between our steps."""
    optimizer, reference = Adam(0.01, L2=0.1), Foreign(Adam(0.01, L2=0.1))
    encoders = make(), make()
    for encoder, both in zip(
        encoders, ((optimizer, Foreign(optimizer)), [reference]), strict=True
    ):
        rng = np.random.default_rng(0)
        for i in range(6):
            give_gradient(encoder, rng)
            step_encoder(encoder, both[i % len(both)], OWNER, layer_lr_decay=1.0)
    for name, tensor in encoders[0].tensors().items():
        assert isinstance(optimizer.averages[OWNER, name], np.ndarray)
        wanted = encoders[1].tensors()[name]
        np.testing.assert_allclose(tensor, wanted, atol=1e-4, err_msg=name)


def test_states_on_other_devices_are_apart():
    optimizer, encoder = Adam(0.01), make()
    names = list(encoder.tensors())
    state_of(optimizer, OWNER, "cpu").averages.update(dict.fromkeys(names, "host"))
    apart = state_of(optimizer, OWNER, "cuda:0").averages
    assert not list(apart)
    apart[names[0]] = "device"
    assert list(apart) == [names[0]]
    assert list(state_of(optimizer, OWNER, "cpu").averages) == names
    assert optimizer.averages[OWNER, f"{names[0]}@cuda:0"] == "device"
    host = dict.fromkeys(names, "host")
    assert find_params(optimizer.averages, OWNER, encoder) == host
    encoder.device = "cuda:0"
    found = find_params(optimizer.averages, OWNER, encoder)
    assert found == {**host, names[0]: "device"}
    assert find_params(optimizer.averages, OWNER + 1, encoder) == {}


def test_settings_follow_the_schedules():
    optimizer = Adam(iter([0.1, 0.2]), grad_clip=0.0, L2=0.5, L2_is_weight_decay=False)
    wanted = {"L2": 0.5, "L2_is_weight_decay": False, "b1": 0.9, "b2": 0.999}
    assert read_settings(optimizer) == StepSettings(0.1, **wanted)
    optimizer.step_schedules()
    optimizer.learn_rate *= 2
    assert read_settings(optimizer, 0.5) == StepSettings(
        0.4, layer_lr_decay=0.5, **wanted
    )


@pytest.mark.parametrize("beta1, beta2", [(0.0, 0.9), (1.0, 0.9), (0.9, 1.0), (-1, 0)])
def test_betas_that_are_no_rule(beta1, beta2):
    encoder = make()
    with pytest.raises(ValueError, match=f"beta1 = {beta1}.*beta2 = {beta2}"):
        step_encoder(encoder, Adam(0.1, beta1=beta1, beta2=beta2), OWNER, 1.0)


def test_lr_scale():
    names = ["embeddings.norm.weight", "layers.0.attn.Wo.weight"]
    names += ["layers.11.mlp.Wi.bias", "final_norm.weight"]
    assert [lr_scale(name, 12, 0.5) for name in names] == [2**-13, 2**-12, 0.5, 1.0]
    assert {lr_scale(name, 12, 1.0) for name in names} == {1.0}


# -- Frozen layers --------------------------------------------------------------


def frozen_names(n):
    rooms = ["embeddings.", *(f"layers.{i}." for i in range(n))] if n else []
    return {name for name in init_tensors(CONFIG, 0) if name.startswith(tuple(rooms))}


@pytest.mark.parametrize("n", range(CONFIG.num_hidden_layers + 1))
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_frozen_layers_stay_as_they_are(n, gradient_checkpointing):
    encoder, whole = make(frozen_layers=n), make()
    encoder._checkpointing = gradient_checkpointing
    frozen = frozen_names(n)
    batch, d_out = draw_pass(encoder, np.random.default_rng(0))
    for each in (encoder, whole):
        out, backprop = each.encode_train(batch)
        # Predicting computes in place, which rounds the last bits otherwise.
        np.testing.assert_allclose(out, make().encode(batch), atol=1e-5)
        backprop(d_out)
    wanted = gradients_of(whole)
    for name, gradient in gradients_of(encoder).items():
        if name in frozen:
            assert not gradient.any()
        else:
            np.testing.assert_allclose(gradient, wanted[name], atol=1e-6)
    before = copied(encoder.tensors())
    optimizer = Adam(0.01, L2=0.1)
    step_encoder(encoder, optimizer, OWNER, layer_lr_decay=0.9)
    for name, tensor in encoder.tensors().items():
        assert (tensor.tobytes() == before[name].tobytes()) == (name in frozen)
    trained = {(OWNER, name) for name in before if name not in frozen}
    for table in (optimizer.mom1, optimizer.mom2, optimizer.averages):
        assert set(table) == trained == set(optimizer.nr_update)


def test_copies_are_frozen_as_well():
    encoder = make(frozen_layers=2).copy({})
    give_gradient(encoder, np.random.default_rng(0))
    gradients = gradients_of(encoder)
    assert {name for name in gradients if not gradients[name].any()} == frozen_names(2)


def test_more_frozen_than_there_are():
    with pytest.raises(
        ValueError, match=r"frozen_layers is 4.*has 3 layers.*Set it to"
    ):
        make(frozen_layers=4)
