"""What the files of a checkpoint cost beyond its weights, in a fresh process."""

import json

from ..scripts import MEMORY, needs_peaks, run_script

pytestmark = needs_peaks

# Peaks, of which the test takes shares of the weights (107 MB).
SCRIPT = """
import json, sys
from dataclasses import replace
import torch  # by which tensors are read
from spacy_modernbert.encoder import checkpoint, weights
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.torch.host_memory import give_back

config = ModernBertConfig.from_dict({
    "model_type": "modernbert", "vocab_size": 8000, "hidden_size": 512,
    "intermediate_size": 1024, "num_attention_heads": 8, "num_hidden_layers": 9,
    "pad_token_id": 3,
})
folder = Path(sys.argv[1])
costs = []

def measure(run):
    give_back()  # or it would take what the one before has freed, which costs nothing
    result, n_bytes = cost(run)
    costs.append(n_bytes)
    return result

def save(tensors):
    checkpoint.save_checkpoint(folder, config, tensors, "{}")

fresh = weights.init_tensors(config, seed=0)
measure(lambda: save(weights.with_matching_keys(fresh, config)))
del fresh

tensors = measure(lambda: dict(checkpoint.open_tensors(folder, config)))
measure(lambda: save(tensors))
data = measure(lambda: checkpoint.tensors_to_bytes(tensors, config))
del tensors
tensors = measure(lambda: dict(checkpoint.tensors_from_bytes(data, config)))
del tensors, data

measure(lambda: save(checkpoint.open_tensors(folder, config)))

# The same through an encoder. The first one loads more of torch.
tiny = replace(config, num_hidden_layers=1, layer_types=config.layer_types[:1])
float32 = {"backend": "cpu", "precision": "float32"}
make_encoder(tiny, weights.init_tensors(tiny, seed=0), **float32)
tensors = checkpoint.open_tensors(folder, config)
encoder = measure(lambda: make_encoder(config, tensors, **float32))
measure(lambda: save(encoder.tensors()))

size = (folder / "model.safetensors").stat().st_size
print(json.dumps([cost / size for cost in costs]))
"""


def test_memory(tmp_path):
    found = json.loads(run_script(MEMORY + SCRIPT, tmp_path / "checkpoint"))
    init, load, save, to_bytes, from_bytes, copy, load_encoder, save_encoder = found
    # The weights, and what one of them is made from: the largest is 0.15.
    assert init <= 1.3

    assert 0.9 <= load <= 1.2  # the weights, which stay
    assert save <= 0.1
    assert 0.9 <= to_bytes <= 2.2  # the bytes, which stay, and once more
    assert 0.9 <= from_bytes <= 2.1  # the weights, and what they are copied from

    assert copy <= 1.3

    assert 0.9 <= load_encoder <= 1.3
    assert save_encoder <= 0.1
