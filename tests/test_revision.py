"""A revision of the hub: it is what is fetched, wherever a checkpoint is named."""

import json

import pytest

from spacy_modernbert.embeddings import load_embedder
from spacy_modernbert.layers.shim import EncoderSettings, EncoderShim
from spacy_modernbert.pretraining.run import Pretraining
from spacy_modernbert.pretraining.settings import Phase, PretrainingSettings

from .commands import done, invoke
from .hub import answer_with

NAME = {"name": "owner/name", "revision": "abc"}


def start(tmp_path):
    EncoderShim(EncoderSettings(backend="cpu", **NAME)).start()


def embedder(tmp_path):
    load_embedder(backend="cpu", **NAME)


def pretrain(tmp_path):
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "Anna went to Oslo."}))
    settings = PretrainingSettings(
        encoder="owner/name",
        revision="abc",
        train=str(tmp_path / "texts.jsonl"),
        phases=(Phase(64, 256, 2),),
        warmup=1,
        decay=1,
        backend="cpu",
    )
    Pretraining(settings, tmp_path / "out")


def command(*arguments):
    def run(tmp_path):
        if "export-onnx" in arguments:
            pytest.importorskip("onnxruntime", reason="needs the extra onnx")
        texts = tmp_path / "texts.txt"
        texts.write_text("Anna went to Oslo.")
        words = [each.format(out=tmp_path / "out", texts=texts) for each in arguments]
        done(invoke(*words, "--revision", "abc"))

    return run


@pytest.mark.parametrize(
    "fetch",
    [
        start,
        embedder,
        pretrain,
        command("embed", "{texts}", "{out}.npy", "--model", "owner/name"),
        command("encoder", "owner/name", "{out}"),
        command("convert", "owner/name", "{out}", "--bits", "32"),
        command("export-onnx", "owner/name", "{out}"),
    ],
    ids=[
        "pipeline",
        "embedder",
        "pretrain",
        "embed",
        "encoder",
        "convert",
        "export-onnx",
    ],
)
def test_it_is_fetched(fetch, checkpoint, tmp_path, monkeypatch):
    asked = answer_with(checkpoint, monkeypatch)
    fetch(tmp_path)
    assert {(each.name, each.revision) for each in asked} == {("owner/name", "abc")}
