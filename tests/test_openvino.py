"""A pipeline whose encoder runs by OpenVINO: what test_backends.py does not show."""

from spacy_modernbert.encoder import availability

from .pipelines import load_exact, load_with, loaded_encoder, shim_of, train
from .util import entities, make_examples, make_text, require, some_entities

require("openvino", reason="needs OpenVINO")

TEXTS = [make_text(seed, 1 + 3 * seed) for seed in range(6)] + ["", "  "]


def test_auto_moves_to_torch_to_train(trained, monkeypatch, tmp_path):
    """Where OpenVINO is the quickest to predict. What was set for training holds."""
    # Whatever is here that it would rather take.
    monkeypatch.setattr(availability, "_is_apple_silicon", lambda: False)
    monkeypatch.setitem(availability._LOOK, "cuda", lambda: ("", "none"))
    monkeypatch.setattr(availability, "_is_quickest_by_openvino", lambda: True)
    nlp = load_with(trained, backend="auto", precision="auto", frozen_layers=1)
    shim = shim_of(nlp)
    assert shim.loaded.encoder.device == "openvino:CPU"
    before = {n: array.copy() for n, array in shim.loaded.encoder.tensors().items()}
    nlp.update(make_examples(nlp, 2), sgd=nlp.resume_training())
    assert shim.loaded.encoder.device == "cpu"
    for name, array in shim.loaded.encoder.tensors().items():
        frozen = name.startswith(("embeddings.", "layers.0."))
        assert (array == before[name]).all() == frozen, name
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp.to_disk(tmp_path / "nlp")
    assert entities(load_exact(tmp_path / "nlp", "openvino").pipe(TEXTS)) == wanted


def test_what_comes_after_it_is_trained(trained, tmp_path):
    """Without a gradient for the encoder itself."""
    nlp = load_exact(trained, "openvino", grad_factor=0.0)
    examples = make_examples(nlp, 4)
    losses = train(nlp, examples, nlp.resume_training(), steps=10)
    assert losses[-1] < losses[0]
    assert loaded_encoder(nlp).device == "openvino:CPU"
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp.to_disk(tmp_path / "nlp")
    assert entities(load_exact(tmp_path / "nlp", "cpu").pipe(TEXTS)) == wanted
