import numpy as np
import torch
from transformers import AutoModel

from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors

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
