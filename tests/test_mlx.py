"""Whole pipelines on MLX, and between MLX and torch."""

import shutil

import numpy as np
import pytest
import spacy
from spacy.util import fix_random_seed

from .pipelines import change_settings, load_with, make_nlp, start, train
from .util import entities, make_examples, make_text, require, some_entities

require("mlx.core", reason="needs MLX: pip install mlx")


def quantized(folder, copy, quantization):
    """RETURNS (Path): A copy of a pipeline whose config says so."""
    shutil.copytree(folder, copy)
    change_settings(copy, quantization=quantization)
    return copy


def test_a_pipeline_learns_as_on_torch(checkpoint, tmp_path, monkeypatch):
    """The same losses; and what was trained on one finds the same on the other."""
    texts = [make_text(seed) for seed in range(4)]
    curves = []
    for backend, other in (("mlx", "cpu"), ("cpu", "mlx")):
        fix_random_seed(0)
        nlp = make_nlp(checkpoint, backend=backend, precision="float32")
        examples = make_examples(nlp, 4, n_sentences=2)
        optimizer = start(nlp, examples)
        curves.append(train(nlp, examples, optimizer, steps=20))
        wanted = some_entities(nlp.pipe(texts))
        with nlp.use_params(optimizer.averages):
            averaged = entities(nlp.pipe(texts))
            nlp.to_disk(tmp_path / "averaged")
        assert entities(nlp.pipe(texts)) == wanted
        nlp.to_disk(tmp_path / "nlp")
        for name, found in (("nlp", wanted), ("averaged", averaged)):
            loaded = load_with(tmp_path / name, backend=other)
            assert entities(loaded.pipe(texts)) == found
        restored = spacy.blank("en")
        restored.add_pipe(
            "modernbert_ner", config={"model": {"tok2vec": {"name": "x"}}}
        )
        monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", other)
        restored.from_bytes(nlp.to_bytes())
        monkeypatch.delenv("SPACY_MODERNBERT_BACKEND")
        assert entities(restored.pipe(texts)) == wanted
    np.testing.assert_allclose(*curves, rtol=0.01)
    assert curves[0][-1] < 0.5 * curves[0][0]


def test_a_quantized_pipeline(trained, tmp_path):
    """Quantized when it is loaded; saved so; and read by torch."""
    settings = {"bits": 8, "group_size": 32}
    nlp = load_with(quantized(trained, tmp_path / "settings", settings), backend="mlx")
    texts = [make_text(seed) for seed in range(6)]
    wanted = some_entities(nlp.pipe(texts))
    assert wanted == entities(spacy.load(trained).pipe(texts))
    nlp.to_disk(tmp_path / "nlp")
    sizes = [
        (folder / "modernbert_ner" / "encoder" / "model.safetensors").stat().st_size
        for folder in (tmp_path / "nlp", trained)
    ]
    assert sizes[0] < 0.45 * sizes[1]
    data = nlp.to_bytes()
    assert len(data) < len(spacy.load(trained).to_bytes()) - 90_000
    assert entities(nlp.from_bytes(data).pipe(texts)) == wanted
    copy = quantized(tmp_path / "nlp", tmp_path / "on_torch", None)
    on_torch = load_with(copy, backend="cpu")
    assert entities(on_torch.pipe(texts)) == wanted
    on_torch.update(make_examples(on_torch, 2))
    with pytest.raises(ValueError, match="quantized weights cannot be trained"):
        nlp.update(make_examples(nlp, 2))
