import platform
import subprocess
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from spacy_modernbert.encoder import processor
from spacy_modernbert.encoder.processor import processor_flags, processor_name

X86 = """processor\t: 0
model name\t: A Processor @ 2.50GHz
flags\t\t: fpu avx2 avx512_bf16
vmx flags\t: vnmi
bugs\t\t: spectre_v1

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n"


@pytest.fixture
def say(tmp_path, monkeypatch):
    """Have the system say something of the processor; None for nothing."""
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "the architecture")
    read = [
        processor._read_cpuinfo,
        processor.processor_flags,
        processor._ask_macos,
    ]

    def write(text):
        for function in read:
            function.cache_clear()
        if text is not None:
            (tmp_path / "cpuinfo").write_text(text)

    yield write
    for function in read:
        function.cache_clear()


@pytest.mark.parametrize(
    "text, name, flags",
    [
        (X86, "A Processor @ 2.50GHz", {"fpu", "avx2", "avx512_bf16"}),
        (ARM, "the architecture", {"fp", "asimd", "bf16"}),
        ("", "the architecture", set()),
        (None, "the architecture", set()),
    ],
    ids=["x86", "ARM", "nothing", "no file"],
)
def test_what_linux_says(say, text, name, flags):
    say(text)
    assert processor_name() == name
    assert processor_flags() == flags


def test_a_mac_names_its_processor(say, monkeypatch):
    """Of which Python says "arm"."""
    say(None)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    asked = []

    def run(command, **kwargs):
        asked.append(command)
        return SimpleNamespace(stdout="Apple M4\n")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", run)
        assert processor_name() == processor_name() == "Apple M4"
    assert asked == [["sysctl", "-n", "machdep.cpu.brand_string"]]
    processor._ask_macos.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", Mock(side_effect=FileNotFoundError))
        assert processor_name() == "arm"
