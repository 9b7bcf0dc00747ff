"""What saving and loading a pipeline costs beyond its weights."""

import json

from .pipelines import make_nlp
from .scripts import MEMORY, needs_peaks, run_script
from .util import make_checkpoint, make_examples

pytestmark = needs_peaks

SCRIPT = """
import json, sys
import spacy
from spacy_modernbert.encoder.checkpoint import TENSORS

warm_up, pipeline, copy = map(Path, sys.argv[1:])

nlp = spacy.load(warm_up)
nlp.to_disk(copy / "warm_up")
nlp, load = cost(lambda: spacy.load(pipeline))
_, save = cost(lambda: nlp.to_disk(copy / "nlp"))
size = (pipeline / "modernbert_ner" / "encoder" / TENSORS).stat().st_size
print(json.dumps([size, load / size, save / size]))
"""


def save_pipeline(folder, **sizes):
    checkpoint = make_checkpoint(folder / "checkpoint", **sizes)
    # In bfloat16, there is a copy of half the size to multiply with.
    nlp = make_nlp(checkpoint, precision="float32")
    nlp.initialize(lambda: make_examples(nlp, 1))
    nlp.to_disk(folder / "nlp")
    return folder / "nlp"


def test_memory(tmp_path):
    small = save_pipeline(tmp_path / "small")
    large = save_pipeline(
        tmp_path / "large",
        hidden_size=512,
        intermediate_size=1024,
        num_attention_heads=8,
        num_hidden_layers=11,
    )
    found = run_script(MEMORY + SCRIPT, small, large, tmp_path)
    size, load, save = json.loads(found)
    assert size > 100e6
    assert 0.9 <= load <= 1.3  # the weights, which stay, and 0.3
    assert save <= 0.3
