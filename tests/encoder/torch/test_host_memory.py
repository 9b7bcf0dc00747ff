"""What is freed is given back, so that a pass holds what it needs."""

import pytest

from spacy_modernbert.encoder.torch import host_memory

from ...scripts import MEMORY, needs_peaks, run_script

# A pass of which only what enters each of its layers is kept, and its gradient.
SCRIPT = """
import numpy as np
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 100, "hidden_size": 256,
    "intermediate_size": 384, "num_attention_heads": 4, "num_hidden_layers": 16,
    "global_attn_every_n_layers": 16, "pad_token_id": 3,
})
encoder = make_encoder(
    config, init_tensors(config, 0), backend="cpu", gradient_checkpointing=True
)

def run(length):
    batch = PackedBatch(np.zeros(length, np.int64), np.array([0, length], np.int32))
    out, backprop = encoder.encode_train(batch)
    return backprop(out)

run(1100)
_, n_bytes = cost(lambda: run(4096))
print(n_bytes // (4 * 4096 * 256))
"""


@needs_peaks
def test_what_is_recomputed_is_not_held():
    """In arrays as large as a hidden state: one for each of the 16 layers, and those of
    one layer with its gradient.
    """
    assert int(run_script(MEMORY + SCRIPT)) < 60


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems(monkeypatch, platform):
    host_memory._find_trim.cache_clear()
    monkeypatch.setattr(host_memory.sys, "platform", platform)
    host_memory.give_back()
    assert host_memory._find_trim() is None
    host_memory._find_trim.cache_clear()
