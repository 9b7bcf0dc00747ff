from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers import as_fake
from benchmarks.pipelines import make_pipeline
from benchmarks.pipelines.fake import draw_vectors
from benchmarks.points import OURS, Peer
from spacy_modernbert.encoder import availability
from spacy_modernbert.encoder.availability import look_for
from spacy_modernbert.encoder.torch_encoder import ModernBert

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
