from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import as_fake
from benchmarks.pipelines import make_pipeline
from benchmarks.pipelines.fake import draw_vectors
from benchmarks.points import OURS, Peer
from spacy_modernbert.encoder.torch_encoder import ModernBert

TEXTS = ["They spoke of Baicko.", "", "A longer text, of two sentences. Here it ends."]


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
