from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.jobs import make_job
from benchmarks.peers import as_fake, in_8_bits
from benchmarks.pipelines import make_pipeline
from benchmarks.pipelines.fake import draw_vectors
from benchmarks.points import OURS, Peer, Point
from benchmarks.recognizer import IN_ENTITIES
from benchmarks.texts import write_texts
from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.availability import look_for
from spacy_modernbert.encoder.comparing import compare
from spacy_modernbert.encoder.torch.model import ModernBert

from ..util import require

TEXTS = ["They spoke of Baicko.", "", "A longer text, of two sentences. Here it ends."]


@pytest.mark.parametrize("backend", ["openvino", "onnx", "mlx"])
def test_an_instant_encoder_of_another_library(backend: str, checkpoint: Path) -> None:
    missing = look_for(backend).missing
    if missing:
        pytest.skip(missing)
    peer = as_fake(Peer(f"ours {backend} float32", OURS, device=backend))
    pipeline = make_pipeline(peer, checkpoint, 6)
    docs = list(pipeline.nlp.pipe(TEXTS))
    assert [doc.text for doc in docs] == TEXTS
    vectors = pipeline.hidden("a")
    np.testing.assert_array_equal(vectors, draw_vectors(*vectors.shape))


def test_a_pipeline_in_8_bits(checkpoint: Path) -> None:
    peer = Peer("ours cpu float32", OURS, device="cpu", precision="float32")
    full, quantized = (
        make_pipeline(each, checkpoint, 6).hidden(TEXTS[2])
        for each in (peer, in_8_bits(peer))
    )
    assert not np.array_equal(full, quantized)
    assert compare(quantized, full).least_cosine > 0.99


@pytest.mark.parametrize("device, chosen", [("cpu", "openvino"), ("cuda", "cuda")])
def test_what_auto_takes_of_a_device_comes_first(
    device: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever other devices there are, which it would rather take."""
    for backend in ("cuda", "openvino"):
        monkeypatch.setitem(
            availability._LOOK, backend, lambda name=backend: (name, "")
        )
    monkeypatch.setattr(availability, "_is_quickest_by_openvino", lambda: True)
    monkeypatch.setattr(peers, "resolve_precision", lambda precision, name: "float32")
    assert peers.list_ours_as_chosen(device)[0].device == chosen


@pytest.mark.parametrize(
    "platform, backend, found, device",
    [
        ("darwin", "mlx", "mlx:gpu", "mps"),
        ("linux", "mlx", "mlx:gpu", "cuda"),
        ("linux", "mlx", "mlx:cpu", "cpu"),
        ("linux", "onnx", "onnx:CUDAExecutionProvider, cuda:0", "cuda"),
        ("linux", "onnx", "onnx:CPUExecutionProvider, x86_64", "cpu"),
    ],
)
def test_what_runs_on_a_gpu_is_not_compared_with_processors(
    platform: str,
    backend: str,
    found: str,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers.sys, "platform", platform)
    monkeypatch.setitem(availability._LOOK, backend, lambda: (found, ""))
    monkeypatch.setattr(peers, "resolve_precision", lambda precision, name: "float32")
    for each in ("cpu", "cuda", "mps"):
        names = [peer.device for peer in peers.list_ours_as_chosen(each)]
        assert (backend in names) == (each == device)


def test_of_a_library_that_is_not_there_no_precision_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line of the peer says that it is missing; the other peers run."""
    monkeypatch.setitem(availability._LOOK, "openvino", lambda: ("", "Install it"))
    resolve = peers.resolve_precision

    def refuse(precision: str, backend: str) -> str:
        if backend == "openvino":
            raise ImportError(backend)
        return resolve(precision, backend)

    monkeypatch.setattr(peers, "resolve_precision", refuse)
    found = {peer.device: peer for peer in peers.list_ours_as_chosen("cpu")}
    assert found["openvino"].precision == "float32" and "cpu" in found


def test_an_instant_encoder_runs_no_layer_and_is_pooled(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline(as_fake(Peer("ours cpu float32", OURS)), checkpoint, 6)

    def run(*_: object) -> None:
        raise AssertionError("a layer was run")

    monkeypatch.setattr(ModernBert, "forward", run)
    docs = list(pipeline.nlp.pipe(TEXTS))
    assert [doc.text for doc in docs] == TEXTS
    vectors = pipeline.hidden("a")
    np.testing.assert_array_equal(vectors, draw_vectors(*vectors.shape))


@pytest.mark.parametrize(
    "engine, spans, n_truncated",
    [
        ("spacy-transformers", "whole", 1),
        ("spacy-transformers", "strided", None),
        (OURS, "", None),
    ],
)
def test_who_truncates_documents_says_how_many(
    engine: str,
    spans: str,
    n_truncated: Optional[int],
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    require("spacy_transformers")
    texts = write_texts(tmp_path / "texts.json", ["A word.", "A word. " * 2000])
    peer = Peer("a peer", engine, options={"spans": spans, "fake": True})
    work = {"texts": str(texts), "labels": 1}
    facts = make_job(Point("pipe", peer, str(checkpoint), work, threads=1)).facts
    assert facts["wordpieces"] > 8192
    assert facts.get("truncated") == n_truncated


def test_with_an_instant_encoder_everybody_finds_as_much(
    checkpoint: Path, tmp_path: Path
) -> None:
    """What a parser costs depends on it."""
    require("spacy_transformers")
    texts = write_texts(tmp_path / "texts.json", [" ".join(TEXTS) * 40])
    work = {"texts": str(texts), "labels": 6}
    shares = []
    for engine, options in ((OURS, {}), ("spacy-transformers", {"spans": "whole"})):
        peer = as_fake(Peer(f"{engine} float32", engine, options=options))
        point = Point("pipe", peer, str(checkpoint), work, threads=1)
        shares.append(make_job(point).facts["in_entities"])
    assert shares == pytest.approx([IN_ENTITIES, IN_ENTITIES], abs=0.05)
