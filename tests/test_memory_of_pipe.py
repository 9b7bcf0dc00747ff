"""Resident memory while a stream of documents goes through a pipeline."""

from pathlib import Path

import pytest

from .scripts import MEMORY, run_script
from .util import make_text

if not Path("/proc/self/status").exists():
    pytest.skip("memory is read from /proc, which Linux has", allow_module_level=True)

SCRIPT = """
import ctypes
import sys
import spacy

libc = ctypes.CDLL(None)

def resident():
    # What was given back to the allocator does not count, wherever it kept it.
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    return read("VmRSS") / 2**20

nlp = spacy.load(sys.argv[1])
text = sys.stdin.read()
seen = []
for i, doc in enumerate(nlp.pipe(text for _ in range(1000))):
    if i % 100 == 99:
        seen.append(resident())
print(max(seen[1:]) - seen[0])
"""


def test_flat_over_a_thousand_documents(trained):
    grown = run_script(MEMORY + SCRIPT, trained, stdin=make_text(0, 15))
    # Their token vectors alone would be 20 MiB.
    assert float(grown) < 10
