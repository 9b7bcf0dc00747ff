"""Memory stays flat over documents of many lengths."""

import numpy as np
import pytest
import torch

from spacy_modernbert.encoder.availability import emulates, multiplies_int8
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.torch import shapes
from spacy_modernbert.encoder.torch.shapes import counts_shapes, pad_rows, round_batch
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

from ...scripts import needs_peaks, run_script
from ...util import make_config, skip_unless_here

# What resident memory grows by over some lengths, those before the first ones aside.
SCRIPT = """
import os
import sys
import numpy as np
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 100, "hidden_size": 64,
    "intermediate_size": 96, "num_attention_heads": 1, "num_hidden_layers": 2,
    "pad_token_id": 3,
})
backend, precision, *bits = sys.argv[1:]
encoder = make_encoder(
    config,
    init_tensors(config, 0),
    backend=backend,
    precision=precision,
    quantization={"bits": int(bits[0])} if bits else None,
)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def run(lengths):
    for length in lengths:
        encoder.encode(
            PackedBatch(np.zeros(length, np.int64), np.array([0, length], np.int32))
        )

run(range(600, 960, 8))
before = resident()
run(range(601, 960, 2))
print(resident() - before)
"""


def test_batches_are_rounded_up_behind():
    batch = PackedBatch.of([np.arange(5), np.arange(60)])
    rounded = round_batch(batch)
    assert rounded.total == 128 and rounded.n_seqs == 3
    np.testing.assert_array_equal(rounded.ids[:65], batch.ids)
    np.testing.assert_array_equal(rounded.cu_seqlens[:3], batch.cu_seqlens)
    assert round_batch(rounded) is rounded


@pytest.mark.parametrize("has_int8", [False, True])
def test_what_is_multiplied_by_onednn(monkeypatch, has_int8):
    monkeypatch.setattr(shapes, "multiplies_int8", lambda: has_int8)
    config = make_config()
    for settings, rounds in (
        ({"precision": "float32"}, False),
        ({"precision": "bfloat16"}, True),
        ({"precision": "float32", "quantization": {"bits": 8}}, has_int8),
        ({"precision": "bfloat16", "quantization": {"bits": 8}}, True),
    ):
        tensors = init_tensors(config, 0)
        encoder = make_encoder(config, tensors, backend="cpu", **settings)
        placed, _ = encoder._place(PackedBatch.of([np.arange(65)]), None)
        assert len(placed) == (128 if rounds else 65), settings
    assert not counts_shapes(torch.device("mps"), torch.bfloat16, True)


def test_rows_are_padded_by_zeros():
    x = torch.rand(2, 3)
    padded = pad_rows(x, 4)
    assert torch.equal(padded[:2], x)
    assert torch.equal(padded[2:], torch.zeros(2, 3))


@needs_peaks
@pytest.mark.parametrize(
    "settings",
    [("cpu", "bfloat16"), ("cpu", "float32", "8"), ("openvino", "float32")],
    ids="-".join,
)
def test_memory_is_flat(settings):
    backend, precision, *bits = settings
    skip_unless_here(backend)
    if backend == "cpu":
        # Of float32, no shape is kept, and float32 is what is multiplied then.
        if bits and not multiplies_int8():
            pytest.skip("the processor has no products of int8")
        if emulates(precision):
            pytest.skip(f"the processor has no products of {precision}")
    assert int(run_script(SCRIPT, *settings)) < 30e6
