"""What loading and saving cost beyond the weights, each in a fresh process."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="Windows has no getrusage")

# Resident memory at its highest, in shares of the weights (107 MB): how much each
# step raises it.
HEAD = """
import json, resource, sys
from pathlib import Path
from spacy_modernbert.encoder import checkpoint, weights
from spacy_modernbert.encoder.config import ModernBertConfig

config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 8000, "hidden_size": 512,
    "intermediate_size": 1024, "num_attention_heads": 8, "num_hidden_layers": 9,
    "pad_token_id": 3,
})
folder = Path(sys.argv[1])
highest = []

def measure():
    unit = 1 if sys.platform == "darwin" else 1024
    highest.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

measure()
"""

INIT = """
fresh = weights.init_tensors(config, seed=0)
checkpoint.save_checkpoint(folder, config, fresh, "{}")
measure()
"""

LOAD = """
tensors = dict(checkpoint.open_tensors(folder, config))
measure()
checkpoint.save_checkpoint(folder, config, tensors, "{}")
measure()
data = checkpoint.tensors_to_bytes(tensors, config)
measure()
del tensors
tensors = dict(checkpoint.tensors_from_bytes(data, config))
measure()
"""

# The same through an encoder. The first one loads torch.
ENCODER = """
from dataclasses import replace
from spacy_modernbert.encoder.backend import make_encoder
tiny = replace(config, num_hidden_layers=1, layer_types=config.layer_types[:1])
make_encoder(tiny, weights.init_tensors(tiny, seed=0), backend="cpu")
highest.clear()
measure()
tensors = checkpoint.open_tensors(folder, config)
encoder = make_encoder(config, tensors, backend="cpu")
measure()
checkpoint.save_checkpoint(folder, config, encoder.tensors(), "{}")
measure()
"""

TAIL = """
size = (folder / "model.safetensors").stat().st_size
print(json.dumps([(b - a) / size for a, b in zip(highest, highest[1:])]))
"""


def run(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script + TAIL, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_memory(tmp_path):
    (init,) = run(INIT, tmp_path / "checkpoint")
    assert init <= 0.3  # one tensor at a time, the largest being 0.15

    load, save, to_bytes, from_bytes = run(LOAD, tmp_path / "checkpoint")
    assert load <= 1.1  # the weights themselves
    assert save <= 0.1
    assert to_bytes <= 1.2  # the bytes themselves
    assert from_bytes <= 0.1  # in the place of the weights that were freed

    load, save = run(ENCODER, tmp_path / "checkpoint")
    assert load <= 1.3
    assert save <= 0.1
