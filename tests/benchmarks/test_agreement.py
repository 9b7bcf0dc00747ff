"""A trained pipeline on one backend after another."""

import json
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from benchmarks import agreement
from spacy_modernbert.encoder.backend import BACKEND_VARIABLE

from ..commands import done, failed, invoke
from ..pipelines import shim_of
from ..util import kept_config, make_examples

APP = agreement.typer.Typer()
APP.command()(agreement.main)


def test_a_backend_is_the_one_of_its_row(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "tpu")
    monkeypatch.setattr(agreement, "VARIANTS", agreement.VARIANTS[:1])
    data, output = tmp_path / "test.spacy", tmp_path / "agreement.json"
    examples = make_examples(spacy.blank("en"), 4)
    DocBin(docs=[example.reference for example in examples]).to_disk(data)
    done(invoke(trained, data, "--output", output, app=APP))
    found = json.loads(output.read_text())
    assert found["not_run"] == []
    assert [(row["backend"], row["precision"]) for row in found["rows"]] == [
        ("cpu", "float32")
    ]


def test_a_pipeline_without_an_encoder(tmp_path: Path) -> None:
    """A table would say that backends agree which were never asked."""
    spacy.blank("en").to_disk(tmp_path / "nlp")
    DocBin().to_disk(tmp_path / "test.spacy")
    found = failed(invoke(tmp_path / "nlp", tmp_path / "test.spacy", app=APP))
    assert "no encoder that a backend runs" in found


def test_an_encoder_within_other_layers(checkpoint: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    model = {"tok2vec": kept_config(checkpoint)}
    nlp.add_pipe("modernbert_ner", config={"model": model})
    examples = make_examples(nlp, 2)
    nlp.initialize(lambda: examples)
    nlp.to_disk(tmp_path)
    for precision in ("float32", "bfloat16"):
        loaded = agreement.load(tmp_path, "cpu", precision, None)
        assert shim_of(loaded).settings.precision == precision
