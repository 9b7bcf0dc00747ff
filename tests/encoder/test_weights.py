import numpy as np
import pytest
import torch
from transformers import AutoModel

from spacy_modernbert.encoder.config import FULL, ModernBertConfig
from spacy_modernbert.encoder.torch.rope import make_rotation, rotate
from spacy_modernbert.encoder.weights import (
    expected_shapes,
    init_tensors,
    with_matching_keys,
)

from .util import make_oracle, state


def test_fresh_weights_are_drawn_as_transformers_draws_them():
    torch.manual_seed(0)
    model = AutoModel.from_config(
        make_oracle(
            hidden_size=256, norm_bias=True, attention_bias=True, mlp_bias=True
        ).config
    )
    config = ModernBertConfig.from_dict(model.config.to_dict())
    fresh = init_tensors(config, seed=0)
    assert list(fresh) == list(state(model))
    for name, theirs in state(model).items():
        ours = fresh[name]
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        # 8,000 numbers and more: the deviation is within 5 % of the same.
        assert abs(ours.std() - theirs.std()) <= 0.05 * theirs.std(), name
        assert abs(ours.mean() - theirs.mean()) <= 0.05 * theirs.std(), name
        assert np.abs(ours).max() <= np.abs(theirs).max() * 1.01, name


def test_fresh_weights_depend_on_the_seed_only():
    config = ModernBertConfig.from_dict(make_oracle().config.to_dict())
    first, same, other = (init_tensors(config, seed) for seed in (1, 1, 2))
    for name in reversed(list(first)):
        np.testing.assert_array_equal(first[name], same[name])
        if not name.endswith(("norm.weight", "bias")):
            assert (first[name] != other[name]).any()
    # A stream for each tensor.
    assert (first["layers.0.mlp.Wo.weight"] != first["layers.1.mlp.Wo.weight"]).any()


def test_matching_keys():
    """In full-attention layers above the first only, and nothing else is touched."""
    config = ModernBertConfig.from_dict(
        make_oracle(num_hidden_layers=5, attention_bias=True).config.to_dict()
    )
    fresh = dict(init_tensors(config, seed=0))
    before = {name: tensor.copy() for name, tensor in fresh.items()}
    matching = with_matching_keys(fresh, config)
    assert list(matching) == list(expected_shapes(config)) and len(matching) == len(
        fresh
    )
    for name, tensor in matching.items():
        assert tensor.shape == before[name].shape and tensor.dtype == np.float32
        np.testing.assert_array_equal(fresh[name], before[name])
        if name != "layers.3.attn.Wqkv.weight":
            np.testing.assert_array_equal(tensor, before[name])
            continue
        query, key, value = np.split(tensor, 3)
        their_query, their_key, their_value = np.split(before[name], 3)
        # In every head and in both halves of it, the pairs that turn slowly.
        slow = config.rope_periods("full_attention") >= (
            config.max_position_embeddings / 4
        )
        slow = np.tile(slow, 2 * config.num_attention_heads)
        assert slow.any() and not slow.all()
        np.testing.assert_array_equal(key[slow], query[slow])
        gains = query[slow] / their_query[slow]
        np.testing.assert_allclose(gains, gains[0, 0], rtol=1e-5)
        np.testing.assert_allclose(query[~slow], 0.25 * their_query[~slow])
        np.testing.assert_allclose(key[~slow], 0.25 * their_key[~slow])
        np.testing.assert_array_equal(value, their_value)


@pytest.mark.parametrize("initializer_range", [0.02, 0.1])
@pytest.mark.parametrize("distance", [0, 100, 2000])
def test_matching_keys_make_a_wordpiece_look_at_its_like(initializer_range, distance):
    """At any distance, and however small the weights are drawn."""
    config = ModernBertConfig.from_dict(
        {
            "model_type": "modernbert",
            "hidden_size": 256,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "initializer_range": initializer_range,
        }
    )
    weight = with_matching_keys(init_tensors(config, 0), config)
    weight = torch.from_numpy(weight["layers.3.attn.Wqkv.weight"])
    inputs = torch.from_numpy(
        np.random.default_rng(0).standard_normal((500, 256)).astype(np.float32)
    )
    query, key, _ = (inputs @ weight.T).view(500, 3, 4, 64).unbind(1)
    there = make_rotation(torch.full((500,), distance), config.rope_periods(FULL))
    turned = rotate(key[:, None], there)[:, 0]
    scores = torch.einsum("ihd,jhd->hij", query, turned) / 8
    like = scores.softmax(-1).diagonal(dim1=1, dim2=2)
    assert like.mean() > 0.8
