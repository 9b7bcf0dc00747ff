import subprocess
import sys

from ..util import ROOT

CHECK = """
import sys
import spacy_modernbert.evaluation.scorer, spacy_modernbert.evaluation.report
import spacy_modernbert.evaluation.curve, spacy_modernbert.loggers
found = {"torch", "transformers", "numba", "spacy_modernbert.layers"} & set(sys.modules)
assert not found, found
"""


def test_it_needs_no_torch():
    subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, check=True)
