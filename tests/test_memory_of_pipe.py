"""Resident memory while a stream of documents goes through a pipeline."""

import subprocess
import sys
from pathlib import Path

import pytest

from .util import make_text

if not Path("/proc/self/status").exists():
    pytest.skip("memory is read from /proc, which Linux has", allow_module_level=True)

SCRIPT = """
import ctypes
import sys
import spacy
from pathlib import Path

libc = ctypes.CDLL(None)

def resident():
    # What was given back to the allocator does not count, wherever it kept it.
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmRSS:"))

nlp = spacy.load(sys.argv[1])
text = sys.stdin.read()
seen = []
for i, doc in enumerate(nlp.pipe(text for _ in range(1000))):
    if i % 100 == 99:
        seen.append(resident())
print(max(seen[1:]) - seen[0])
"""


def test_flat_over_a_thousand_documents(trained):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(trained)],
        input=make_text(0, 15),
        capture_output=True,
        text=True,
        check=True,
    )
    # Their token vectors alone would be 20 MiB.
    assert float(done.stdout) < 10
