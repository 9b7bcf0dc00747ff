"""What a long document costs beyond the encoder, in a fresh process: nothing that grows
with the square of its length.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

if not Path("/proc/self/clear_refs").exists():
    pytest.skip("peaks are read from /proc, which Linux has", allow_module_level=True)

# So long that a square of it is far more than the tiles of some megabytes in which
# attention is computed.
LENGTH = 16384

# The peak of resident memory that one document adds. A short one goes before, so that
# what torch loads or makes once is not counted.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch

length, precision, train = json.loads(sys.argv[1])
config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 100, "hidden_size": 16,
    "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2,
    "pad_token_id": 3,
})
encoder = make_encoder(
    config, init_tensors(config, 0), backend="cpu", precision=precision
)

def run(length):
    batch = PackedBatch(np.zeros(length, np.int64), np.array([0, length], np.int32))
    if not train:
        return encoder.encode(batch)
    out, backprop = encoder.encode_train(batch)
    return backprop(out)

def read(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(key + ":"))

run(1100)
Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
before = read("VmRSS")
run(length)
print(read("VmHWM") - before)
"""


@pytest.mark.parametrize(
    "precision, train",
    [
        ("float32", False),
        ("float32", True),
        ("bfloat16", False),
    ],
)
def test_no_square(precision, train):
    arguments = json.dumps([LENGTH, precision, train])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # A mask of bytes, the least of all squares.
    assert int(done.stdout) < 0.6 * LENGTH**2
