import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig
from transformers import ModernBertConfig as HfConfig

from spacy_modernbert.encoder.config import SIZES_FOLDER, ModernBertConfig, every_n

from ..scripts import run_script

FULL, SLIDING = "full_attention", "sliding_attention"


def read(**changes):
    return ModernBertConfig.from_dict({"model_type": "modernbert", **changes})


def rope(full, sliding):
    return {
        FULL: {"rope_theta": full, "rope_type": "default"},
        SLIDING: {"rope_theta": sliding, "rope_type": "default"},
    }


# What transformers writes


def test_defaults_are_those_of_transformers():
    assert read() == ModernBertConfig()
    theirs = ModernBertConfig.from_dict(json.loads(HfConfig().to_json_string()))
    ours = ModernBertConfig()
    for key, value in ours.to_dict().items():
        assert theirs.to_dict()[key] == value or key == "extra", key


def test_reads_what_transformers_writes():
    hf = HfConfig(
        hidden_size=48,
        num_hidden_layers=5,
        global_attn_every_n_layers=2,
        local_rope_theta=500.0,
        norm_bias=True,
        pad_token_id=None,
    )
    config = ModernBertConfig.from_dict(hf.to_dict())
    assert config.hidden_size == 48
    assert config.head_dim == 4
    assert config.layer_types == (FULL, SLIDING, FULL, SLIDING, FULL)
    assert config.rope_theta(FULL) == 160000.0
    assert config.rope_theta(SLIDING) == 500.0
    assert config.half_window == 64
    assert config.norm_bias
    assert config.pad_token_id is None


def test_transformers_reads_what_we_write(tmp_path):
    config = read(hidden_size=48, global_attn_every_n_layers=4, local_attention=32)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    hf = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(hf, HfConfig)
    assert hf.hidden_size == 48
    assert hf.global_attn_every_n_layers == 4
    assert hf.local_attention == 32
    assert hf.architectures == ["ModernBertModel"]


# The two dialects


def test_new_dialect_equals_old():
    old = read(
        num_hidden_layers=4,
        global_attn_every_n_layers=2,
        global_rope_theta=1000.0,
        local_rope_theta=100.0,
    )
    new = read(
        num_hidden_layers=4,
        layer_types=[FULL, SLIDING, FULL, SLIDING],
        rope_parameters=rope(1000.0, 100.0),
    )
    assert old == new


def test_new_dialect_wins_where_both_speak():
    config = read(
        num_hidden_layers=3,
        global_attn_every_n_layers=2,
        layer_types=[SLIDING, SLIDING, FULL],
        global_rope_theta=1.0,
        local_rope_theta=2.0,
        rope_parameters={FULL: {"rope_theta": 3.0}},
    )
    assert config.layer_types == (SLIDING, SLIDING, FULL)
    assert config.global_rope_theta == 3.0
    assert config.local_rope_theta == 2.0


def test_nulls_stand_for_defaults():
    config = read(
        layer_types=None,
        rope_parameters=None,
        rope_scaling=None,
        hidden_size=None,
        local_attention=None,
        global_rope_theta=None,
    )
    assert config == ModernBertConfig()
    # The two nulls that mean something else in transformers.
    config = read(global_rope_theta=7.0, local_rope_theta=None)
    assert config.local_rope_theta == 7.0
    assert read(initializer_cutoff_factor=None).initializer_cutoff_factor == 3.0
    assert read(rope_parameters={FULL: None}).global_rope_theta == 160000.0


def test_sliding_window_is_half_of_local_attention():
    assert read(sliding_window=32).local_attention == 64
    assert read(sliding_window=32, local_attention=64).half_window == 32
    with pytest.raises(ValueError, match=r"sliding_window = 32.*half of.*128"):
        read(sliding_window=32, local_attention=128)


def test_whole_numbers_may_be_written_as_floats():
    config = read(
        intermediate_size=1152.0,
        num_hidden_layers=22.0,
        global_attn_every_n_layers=3.0,
        local_attention=128.0,
        sliding_window=64.0,
        global_rope_theta=160000,
        norm_eps=1,
    )
    assert config == read(norm_eps=1.0)
    assert len(config.layer_types) == config.num_hidden_layers
    assert config.intermediate_size == 1152
    assert isinstance(config.intermediate_size, int)
    assert isinstance(config.global_rope_theta, float)


@given(st.lists(st.sampled_from([FULL, SLIDING]), min_size=1, max_size=12))
def test_every_pattern_survives(layer_types):
    config = read(num_hidden_layers=len(layer_types), layer_types=layer_types)
    written = config.to_dict()
    assert ModernBertConfig.from_dict(written) == config
    every = every_n(tuple(layer_types))
    assert written.get("global_attn_every_n_layers") == every
    if every is not None:
        del written["layer_types"]
        assert ModernBertConfig.from_dict(written) == config


def test_no_pattern_no_old_key():
    config = read(num_hidden_layers=3, layer_types=[SLIDING, FULL, SLIDING])
    assert "global_attn_every_n_layers" not in config.to_dict()
    assert every_n((FULL, SLIDING, SLIDING, FULL, FULL)) is None


# What is kept and what is not


def test_unknown_keys_survive():
    labels = {"0": "O", "1": "PER"}
    config = read(id2label=labels, classifier_pooling="mean", note=None)
    written = config.to_dict()
    assert written["id2label"] == labels
    assert written["classifier_pooling"] == "mean"
    assert written["note"] is None
    assert ModernBertConfig.from_dict(written) == config


def test_what_is_said_of_the_file_is_not_kept():
    written = read(
        architectures=["ModernBertForMaskedLM"],
        torch_dtype="bfloat16",
        dtype="bfloat16",
        auto_map={"AutoModel": "modeling.Evil"},
        _name_or_path="/home/someone",
        transformers_version="4.47.0",
    ).to_dict()
    assert written["architectures"] == ["ModernBertModel"]
    assert written["torch_dtype"] == "float32"
    for key in ("dtype", "auto_map", "_name_or_path", "transformers_version"):
        assert key not in written


def test_is_frozen_and_hashable():
    config = read(id2label={"0": "O"})
    assert hash(config) == hash(read(id2label={"0": "O"}))
    assert config != read(id2label={"0": "PER"})
    with pytest.raises(FrozenInstanceError):
        config.hidden_size = 1


def test_max_wordpieces():
    assert read().max_wordpieces == 8192
    assert read(max_position_embeddings=512).max_wordpieces == 512
    assert read(max_position_embeddings=100_000).max_wordpieces == 8192


# Errors


@pytest.mark.parametrize(
    "changes,key",
    [
        ({"hidden_size": -1}, "hidden_size = -1"),
        ({"hidden_size": 0}, "hidden_size = 0"),
        ({"hidden_size": 12.5}, "hidden_size = 12.5"),
        ({"hidden_size": "768"}, 'hidden_size = "768"'),
        ({"hidden_size": True}, "hidden_size = true"),
        ({"hidden_size": 100}, r"hidden_size = 100.*num_attention_heads \(12\)"),
        ({"hidden_size": 36}, r"hidden_size = 36.*even.*num_attention_heads \(12\)"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers = 2.5"),
        ({"num_hidden_layers": 1001}, "num_hidden_layers = 1001.*at most 1000"),
        (
            {"num_hidden_layers": 1001, "layer_types": [FULL] * 1001},
            "num_hidden_layers = 1001.*at most 1000",
        ),
        ({"hidden_size": 24 * 10**200}, r"hidden_size = 24.*less than 2\*\*31"),
        ({"sliding_window": 2**31}, r"local_attention = 4294967296.*less than"),
        ({"initializer_cutoff_factor": 1e-30}, "cutoff_factor = 1e-30.*at least 0.1"),
        ({"vocab_size": []}, r"vocab_size = \[\]"),
        ({"local_attention": -128}, "local_attention = -128"),
        ({"sliding_window": 0}, "sliding_window = 0"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers = 0"),
        ({"global_attn_every_n_layers": "3"}, 'global_attn_every_n_layers = "3"'),
        ({"global_rope_theta": 0}, "global_rope_theta = 0"),
        ({"local_rope_theta": float("nan")}, "local_rope_theta = NaN"),
        ({"norm_eps": -1e-5}, "norm_eps = -1e-05"),
        ({"norm_eps": 10**400}, "norm_eps = 1000"),
        ({"norm_eps": -(10**400)}, "norm_eps = -1000"),
        ({"global_rope_theta": 1e39}, r"global_rope_theta = 1e\+39"),
        ({"attention_dropout": 1.0}, "attention_dropout = 1.0"),
        ({"mlp_bias": 1}, "mlp_bias = 1"),
        ({"pad_token_id": "[PAD]"}, r'pad_token_id = "\[PAD\]"'),
        ({"pad_token_id": 50368}, r"pad_token_id = 50368.*vocab_size \(50368\)"),
        ({"vocab_size": 300}, r"pad_token_id = 50283.*vocab_size \(300\)"),
        ({"hidden_activation": "silu"}, 'hidden_activation = "silu"'),
        ({"layer_types": "full"}, 'layer_types = "full"'),
        ({"layer_types": [FULL]}, r"layer_types = .*num_hidden_layers \(22\)"),
        (
            {"num_hidden_layers": 1, "layer_types": ["linear_attention"]},
            r'layer_types\[0\] = "linear_attention"',
        ),
        ({"rope_parameters": {"rope_theta": 1.0}}, "rope_parameters = "),
        ({"rope_parameters": {FULL: 3}}, "rope_parameters.full_attention = 3"),
        (
            {"rope_parameters": {FULL: {"rope_type": "yarn", "factor": 4.0}}},
            'rope_parameters.full_attention.rope_type = "yarn"',
        ),
        ({"rope_scaling": {"type": "linear"}}, 'rope_scaling.rope_type = "linear"'),
        (
            {"rope_parameters": {SLIDING: {"partial_rotary_factor": 0.5}}},
            "rope_parameters.sliding_attention.partial_rotary_factor = 0.5",
        ),
        ({"rope_parameters": {SLIDING: {"rope_theta": "x"}}}, 'local_rope_theta = "x"'),
    ],
)
def test_bad_values_are_named(changes, key):
    with pytest.raises(ValueError, match=key):
        read(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_activation": "silu"},
        {"rope_scaling": {"type": "linear"}},
        {"rope_parameters": {SLIDING: {"partial_rotary_factor": 0.5}}},
    ],
)
def test_what_is_not_supported_is_not_to_be_corrected(changes):
    """Other words in the file would make no other model of it."""
    with pytest.raises(ValueError, match=r"supported here\. Choose another") as caught:
        read(**changes)
    assert "Correct" not in str(caught.value)


@pytest.mark.parametrize(
    "model_type,remedy",
    [
        ("roberta", "roberta.*TransformerModel.v3.*spacy-curated-transformers"),
        ("bert", "'bert'.*spacy-curated-transformers"),
        ("deberta-v2", "deberta-v2.*'transformer' of spacy-transformers"),
        ("modernbert-decoder", "modernbert-decoder.*a word attends only"),
        (None, "no model_type"),
    ],
)
def test_other_models_are_named(model_type, remedy):
    with pytest.raises(ValueError, match=remedy):
        ModernBertConfig.from_dict({"model_type": model_type})


# The configs that come with the project


def test_shipped_base_is_the_published_one():
    data = json.loads((SIZES_FOLDER / "base.json").read_text())
    hf = HfConfig().to_dict()
    for key, value in data.items():
        if key not in ("architectures", "torch_dtype", "classifier_pooling"):
            assert hf.get(key, value) == value, key


def test_importing_it_imports_no_framework():
    code = (
        "import sys, spacy_modernbert.encoder.checkpoint\n"
        "print([m for m in ('torch', 'mlx', 'spacy', 'thinc', 'transformers',"
        " 'huggingface_hub') if m in sys.modules])"
    )
    assert run_script(code).strip() == "[]"
