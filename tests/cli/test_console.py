"""Messages on consoles with few characters."""

import os
import subprocess
import sys


def test_any_character_can_be_said(checkpoint, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("Whatever.", encoding="utf8")
    output = tmp_path / "José_in_Łódź.json"
    command = [sys.executable, "-m", "spacy", "modernbert", "lengths", texts]
    process = subprocess.run(
        [*command, "--tokenizer", checkpoint, "--output", output],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert "José_in_?ód?.json" in process.stdout.decode("cp1252")
    assert output.is_file()
