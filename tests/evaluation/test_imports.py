from ..scripts import run_script

CHECK = """
import sys
sys.modules["torch"] = None
import spacy_modernbert.evaluation.scorer, spacy_modernbert.evaluation.report
import spacy_modernbert.evaluation.curve, spacy_modernbert.loggers
rooms = {"spacy_modernbert.layers", "spacy_modernbert.encoder"}
found = {"transformers", "numba", *rooms} & set(sys.modules)
assert not found, found
"""


def test_it_knows_no_encoder():
    run_script(CHECK)
