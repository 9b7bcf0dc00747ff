"""A revision of the hub: it is what is fetched, wherever a checkpoint is named. What is
not on the hub has none.
"""

import json

import pytest

from spacy_modernbert.embeddings import load_embedder
from spacy_modernbert.layers.settings import EncoderSettings
from spacy_modernbert.layers.shim import EncoderShim
from spacy_modernbert.pretraining.run import Pretraining
from spacy_modernbert.pretraining.settings import Phase, PretrainingSettings

from .commands import done, failed, invoke
from .hub import answer_with
from .util import require

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
        warmup_steps=1,
        decay_steps=1,
        backend="cpu",
    )
    Pretraining(settings, tmp_path / "out")


def command(*arguments):
    def run(tmp_path):
        if "export-onnx" in arguments:
            require("onnxruntime", reason="needs the extra onnx")
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "{texts}", "{out}.npy", "--model", "{checkpoint}"),
        ("embed", "{texts}", "{out}.npy", "--model", "{pipeline}"),
        ("encoder", "{checkpoint}", "{out}"),
        ("encoder", "tiny", "{out}", "--corpus", "{texts}"),
        ("convert", "{checkpoint}", "{out}", "--bits", "32"),
        ("export-onnx", "{checkpoint}", "{out}"),
        ("export-onnx", "{pipeline}", "{out}"),
    ],
    ids=" ".join,
)
def test_what_is_not_on_the_hub_has_none(arguments, checkpoint, trained, tmp_path):
    if "export-onnx" in arguments:
        require("onnxruntime", reason="needs the extra onnx")
    texts = tmp_path / "texts.txt"
    texts.write_text("Anna went to Oslo.")
    places = {"texts": texts, "checkpoint": checkpoint, "pipeline": trained}
    words = [each.format(out=tmp_path / "out", **places) for each in arguments]
    message = failed(invoke(*words, "--revision", "abc"))
    assert "'abc'" in message and "only applies to Hugging Face hub ids" in message
    assert list(tmp_path.iterdir()) == [texts]


def test_a_folder_has_none_in_a_config(checkpoint):
    settings = EncoderSettings(backend="cpu", name=str(checkpoint), revision="abc")
    with pytest.raises(ValueError, match=r"'abc'.*applies to Hugging"):
        EncoderShim(settings).start()
