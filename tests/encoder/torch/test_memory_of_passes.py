"""What a long document costs beyond the encoder, in a fresh process: nothing that grows
with the square of its length.
"""

import json

import pytest

from ...scripts import MEMORY, needs_peaks, run_script

pytestmark = needs_peaks

# So long that a square of it is far more than the tiles of some megabytes in which
# attention is computed.
LENGTH = 16384

# The peaks of resident memory that one document adds, without and with the way back. A
# short one goes before, so that what torch loads or makes once is not counted.
SCRIPT = """
import json, sys
import numpy as np
from spacy_modernbert.encoder.torch import attention, dropping_attention
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

length, is_tiled, dropout = json.loads(sys.argv[1])
config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 100, "hidden_size": 16,
    "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2,
    "pad_token_id": 3, "attention_dropout": dropout,
    # With dropout, all blocks of a sliding window are computed at once.
    "local_attention": 16 if dropout else 128,
})
# Less than the least of all squares, as everything else.
dropping_attention._WEIGHTS_BYTES = 1 << 20
# As in bfloat16, where the processor multiplies it and has no AMX.
attention.pays_to_tile = lambda query: is_tiled
encoder = make_encoder(
    config, init_tensors(config, 0), backend="cpu", precision="float32"
)

def make_batch(length):
    return PackedBatch(np.zeros(length, np.int64), np.array([0, length], np.int32))

def train(batch):
    out, backprop = encoder.encode_train(batch)
    backprop(out)

peaks = []
for run in (encoder.encode, train):
    run(make_batch(1100))
    _, n_bytes = cost(lambda: run(make_batch(length)))
    peaks.append(n_bytes)
print(json.dumps(peaks))
"""


@pytest.mark.parametrize(
    "length, is_tiled, dropout",
    [
        (LENGTH, False, 0.0),
        (LENGTH, True, 0.0),
        # Shorter, since that takes long.
        (LENGTH // 2, False, 0.1),
    ],
)
def test_no_square(length, is_tiled, dropout):
    peaks = run_script(MEMORY + SCRIPT, json.dumps([length, is_tiled, dropout]))
    # A mask of bytes is the least of all squares; with dropout, there are some of
    # float32 for each of the two heads.
    assert max(json.loads(peaks)) < (1.0 if dropout else 0.6) * length**2, peaks
