"""What saving and loading a pipeline costs beyond its weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .util import make_checkpoint

if not Path("/proc/self/clear_refs").exists():
    pytest.skip("peaks are read from /proc, which Linux has", allow_module_level=True)

# Peaks of resident memory. Not getrusage's: that of a fresh process begins with the
# peak of the process that started it.
SCRIPT = """
import json, sys
from pathlib import Path
import spacy
from spacy_modernbert.encoder.checkpoint import TENSORS

warm_up, pipeline, copy = map(Path, sys.argv[1:])

def read(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(key + ":"))

def cost(run):
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = read("VmRSS")
    result = run()
    return result, read("VmHWM") - before

nlp = spacy.load(warm_up)
nlp.to_disk(copy / "warm_up")
nlp, load = cost(lambda: spacy.load(pipeline))
_, save = cost(lambda: nlp.to_disk(copy / "nlp"))
size = (pipeline / "modernbert_ner" / "encoder" / TENSORS).stat().st_size
print(json.dumps([size, load / size, save / size]))
"""


def save_pipeline(folder, **sizes):
    import spacy

    from .util import make_examples

    checkpoint = make_checkpoint(folder / "checkpoint", **sizes)
    nlp = spacy.blank("en")
    # In bfloat16, there is a copy of half the size to multiply with.
    tok2vec = {"name": str(checkpoint), "backend": "cpu", "precision": "float32"}
    nlp.add_pipe("modernbert_ner", config={"model": {"tok2vec": tok2vec}})
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
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        [*command, str(small), str(large), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    size, load, save = json.loads(done.stdout)
    assert size > 100e6
    assert 0.9 <= load <= 1.3  # the weights, which stay, and 0.3
    assert save <= 0.3
