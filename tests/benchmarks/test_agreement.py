"""A trained pipeline on one backend after another."""

import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from benchmarks import agreement
from spacy_modernbert.encoder.backend import BACKEND_VARIABLE

from ..commands import done, invoke
from ..util import make_examples


def test_a_backend_is_the_one_of_its_row(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "tpu")
    monkeypatch.setattr(agreement, "VARIANTS", agreement.VARIANTS[:1])
    data, output = tmp_path / "test.spacy", tmp_path / "agreement.json"
    examples = make_examples(spacy.blank("en"), 4)
    DocBin(docs=[example.reference for example in examples]).to_disk(data)
    app = agreement.typer.Typer()
    app.command()(agreement.main)
    done(invoke(trained, data, "--output", output, app=app))
    found = json.loads(output.read_text())
    assert found["not run"] == []
    assert [(row["backend"], row["precision"]) for row in found["rows"]] == [
        ("cpu", "float32")
    ]
