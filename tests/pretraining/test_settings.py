import re

import pytest
from thinc.api import Config

from spacy_modernbert.pretraining.settings import PretrainingSettings

BASE = """
[pretraining]
encoder = "encoders/mini"
train = "train.jsonl"
warmup_steps = 0

[pretraining.phases]

[pretraining.phases.short]
length = 512
batch_wordpieces = 4096
steps = 10

[pretraining.phases.long]
length = 8192
batch_wordpieces = 8192
steps = 5
"""


def read(**overrides):
    config = Config().from_str(BASE, overrides=overrides)
    return PretrainingSettings.from_config(config)


def test_in_the_order_of_the_file():
    found = read()
    assert [phase.length for phase in found.phases] == [512, 8192]
    assert found.total == 15


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mask_rate", 0),
        ("mask_rate", 1.5),
        ("learn_rate", "fast"),
        ("learn_rate", -1),
        ("beta1", 1.0),
        ("eval_frequency", 0),
        ("seed", -1),
        ("seed", 0.0),
        ("warmup_steps", False),
        ("encoder", 5),
        ("train", ["a.jsonl", "b.jsonl"]),
        ("dev", True),
        ("revision", 5),
        ("precision", "float16"),
        ("decay_steps", 16),
        ("phases.short.length", 3),
        ("phases.short.steps", 0),
        ("phases.long.batch_wordpieces", 8191),
        ("phases", 3),
        ("phases.short", 3),
    ],
)
def test_what_cannot_be_used(key, value):
    escaped = re.escape(repr(value))
    with pytest.raises(ValueError, match=f"{key.split('.')[-1]} .* is {escaped}"):
        read(**{f"pretraining.{key}": value})


def test_unknown_and_missing_settings():
    with pytest.raises(ValueError, match="mask_ratio"):
        read(**{"pretraining.mask_ratio": 0.3})
    with pytest.raises(ValueError, match="has no setting encoder"):
        PretrainingSettings.from_config({"pretraining": {"train": "x"}})
    with pytest.raises(ValueError, match="has no setting encoder"):
        PretrainingSettings.from_config({})
    with pytest.raises(ValueError, match="at least one phase"):
        PretrainingSettings.from_config({"pretraining": {"train": "x", "encoder": "y"}})
