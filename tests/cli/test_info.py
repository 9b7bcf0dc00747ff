import shutil

import pytest
from typer.testing import CliRunner

from spacy_modernbert.cli import app
from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.availability import BACKENDS, look_for


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("SPACY_MODERNBERT_BACKEND", raising=False)


def run(*arguments):
    return CliRunner().invoke(app, ["info", *map(str, arguments)])


def test_what_is_here_and_what_is_missing():
    result = run()
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    for backend in BACKENDS[1:]:
        found = look_for(backend)
        assert (found.device or f"{backend}: {found.missing}") in words
    assert "to predict: " in words and "to train: " in words


def test_the_command_that_installs_what_is_missing(monkeypatch):
    monkeypatch.setattr(availability, "_is_installed", lambda module: module == "torch")
    words = " ".join(run().output.split())
    for extra in ("mlx", "openvino", "onnx"):
        assert f"pip install 'spacy-modernbert[{extra}]'" in words


def test_the_variable_is_shown(monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "cpu")
    assert "SPACY_MODERNBERT_BACKEND is 'cpu'" in " ".join(run().output.split())


def test_pipeline(trained):
    result = run(trained)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "component modernbert_ner" in words
    assert "3 layers, 32 wide, 512 wordpieces" in words
    assert "cpu, which is cpu here" in words
    assert "8192 wordpieces, 512 shared" in words


def test_no_pipeline(tmp_path):
    result = run(tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "model-best" in result.output


def test_a_backend_of_the_pipeline_that_is_missing(trained, monkeypatch):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    result = run(trained)
    assert result.exit_code == 1
    assert "There is no backend 'tpu'" in " ".join(result.output.split())


def test_quantized_pipeline(trained, tmp_path):
    folder = tmp_path / "nlp"
    shutil.copytree(trained, folder)
    encoder = folder / "modernbert_ner" / "encoder"
    output = tmp_path / "quantized"
    arguments = ["convert", str(encoder), str(output), "--group-size", "32"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    shutil.rmtree(encoder)
    output.rename(encoder)
    assert ", quantized to 8 bits" in " ".join(run(folder).output.split())
