"""What a long document costs beyond the encoder, in a fresh process: nothing that grows
with the square of its length.
"""

import json

import pytest

from ..scripts import MEMORY, needs_peaks, run_script

pytestmark = needs_peaks

# So long that a square of it is far more than the tiles of some megabytes in which
# attention is computed.
LENGTH = 16384

# The peak of resident memory that one document adds. A short one goes before, so that
# what torch loads or makes once is not counted.
SCRIPT = """
import json, sys
import numpy as np
from spacy_modernbert.encoder import dropping_attention
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

length, precision, train, dropout = json.loads(sys.argv[1])
config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 100, "hidden_size": 16,
    "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2,
    "pad_token_id": 3, "attention_dropout": dropout,
    # With dropout, all blocks of a sliding window are computed at once.
    "local_attention": 16 if dropout else 128,
})
# Less than the least of all squares, as everything else.
dropping_attention._WEIGHTS_BYTES = 1 << 20
encoder = make_encoder(
    config, init_tensors(config, 0), backend="cpu", precision=precision
)

def run(length):
    batch = PackedBatch(np.zeros(length, np.int64), np.array([0, length], np.int32))
    if not train:
        return encoder.encode(batch)
    out, backprop = encoder.encode_train(batch)
    return backprop(out)

run(1100)
_, n_bytes = cost(lambda: run(length))
print(n_bytes)
"""


@pytest.mark.parametrize(
    "length, precision, train, dropout",
    [
        (LENGTH, "float32", False, 0.0),
        (LENGTH, "float32", True, 0.0),
        (LENGTH, "bfloat16", False, 0.0),
        (LENGTH, "bfloat16", True, 0.0),
        # Shorter, since that takes long.
        (LENGTH // 2, "float32", True, 0.1),
    ],
)
def test_no_square(length, precision, train, dropout):
    arguments = json.dumps([length, precision, train, dropout])
    peak = run_script(MEMORY + SCRIPT, arguments)
    # A mask of bytes is the least of all squares; with dropout, there are some of
    # float32 for each of the two heads.
    assert int(peak) < (1.0 if dropout else 0.6) * length**2
