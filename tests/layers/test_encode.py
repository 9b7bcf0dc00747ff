from dataclasses import replace

import numpy as np
import pytest
from thinc.api import set_dropout_rate

from spacy_modernbert.layers.encode import get_shim
from spacy_modernbert.types import PackedBatch

from ..util import (
    assert_same_gradients,
    count_passes,
    gradients_of_model,
    make_checkpoint,
    make_text,
    make_tok2vec,
    require,
)


def encode_layer(checkpoint, **changes):
    return make_tok2vec(checkpoint, **changes).layers[0]


@pytest.fixture(scope="module")
def docs(nlp):
    return [nlp(make_text(seed, n)) for seed, n in enumerate([2, 9, 1, 30, 4])]


def test_windows_are_encoded_as_if_alone(checkpoint, docs):
    layer = encode_layer(checkpoint, window=64, overlap=16, max_batch_wordpieces=200)
    encoded = layer.predict(docs)
    encoder = get_shim(layer).loaded.encoder
    ids = np.concatenate([batch.ids for batch in encoded.plan.batches])
    assert encoded.vectors.shape == (ids.size, layer.get_dim("nO"))
    start = 0
    for length in encoded.plan.window_lengths:
        alone = PackedBatch(
            ids[start : start + length], np.array([0, length], dtype=np.int32)
        )
        np.testing.assert_allclose(
            encoded.vectors[start : start + length], encoder.encode(alone), atol=1e-5
        )
        start += length


@pytest.mark.parametrize("budget", [64, 200, 16384])
def test_the_budget_holds_in_prediction_and_training(checkpoint, docs, budget):
    layer = encode_layer(checkpoint, window=64, max_batch_wordpieces=budget)
    passes = count_passes(layer)
    layer.predict(docs)
    n_batches = len(passes.encoded)
    assert max(passes.encoded) <= budget and passes.trained == []
    encoded, backprop = layer.begin_update(docs)
    backprop(np.ones_like(encoded.vectors))
    assert max(passes.trained) <= budget
    # The last batch once, the others twice.
    assert sorted(passes.trained) == sorted(passes.encoded[:n_batches])
    assert passes.encoded[n_batches:] == passes.encoded[: n_batches - 1]
    assert passes.most_held == 1 and passes.held == 0


def test_gradients_do_not_depend_on_the_budget(checkpoint, docs):
    found = []
    for budget in (64, 200, 16384):
        layer = encode_layer(checkpoint, window=64, max_batch_wordpieces=budget)
        encoded, backprop = layer.begin_update(docs)
        rng = np.random.default_rng(0)
        backprop(rng.normal(size=encoded.vectors.shape).astype(np.float32))
        found.append(gradients_of_model(layer))
    for gradients in found[:2]:
        assert_same_gradients(gradients, found[2])


def test_with_dropout_every_batch_is_kept(tmp_path, docs):
    folder = make_checkpoint(tmp_path / "drops", mlp_dropout=0.5)
    layer = encode_layer(folder, window=64, max_batch_wordpieces=200)
    passes = count_passes(layer)
    encoded, backprop = layer.begin_update(docs)
    assert passes.encoded == [] and passes.held == len(encoded.plan.batches) > 1
    n_trained = len(passes.trained)
    backprop(np.ones_like(encoded.vectors))
    assert len(passes.trained) == n_trained and passes.held == 0


def test_the_dropout_of_training_does_not_reach_it(checkpoint, docs):
    """As in spacy-transformers: an encoder drops out what its own config says."""
    model = make_tok2vec(checkpoint)
    wanted, _ = model.begin_update(docs)
    set_dropout_rate(model, 0.5)
    found, _ = model.begin_update(docs)
    for vectors, others in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(vectors, others)


def test_no_gradient_no_pass(checkpoint, docs):
    layer = encode_layer(checkpoint, window=64, max_batch_wordpieces=64)
    passes = count_passes(layer)
    encoded, backprop = layer.begin_update(docs)
    backprop(np.zeros_like(encoded.vectors))
    assert len(passes.trained) == 1
    before = {name: array.copy() for name, array in passes.tensors().items()}
    get_shim(layer).finish_update(lambda key, w, g: (w + 1, g))
    for name, array in passes.tensors().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_doc_is_tokenized_once(checkpoint, docs):
    layer = encode_layer(checkpoint, window=64, max_batch_wordpieces=64)
    shim = get_shim(layer)
    calls = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts):
            calls.append(list(texts))
            return tokenizer(texts)

    tokenizer = shim.loaded.tokenizer
    shim._loaded = replace(shim.loaded, tokenizer=Counting())
    encoded, backprop = layer.begin_update(docs)
    backprop(np.ones_like(encoded.vectors))
    assert calls == [[doc.text for doc in docs]]


def test_initializing_encodes_nothing(checkpoint, docs):
    layer = encode_layer(checkpoint)
    passes = count_passes(layer)
    layer.initialize(X=docs)
    assert passes.encoded == passes.trained == []
    assert layer.get_dim("nO") == 32


def test_window_beyond_the_model(tmp_path):
    folder = make_checkpoint(tmp_path / "short", max_position_embeddings=128)
    with pytest.raises(ValueError, match=r"window of 129 .* Set window to 128"):
        make_tok2vec(folder, window=129)
    assert make_tok2vec(folder, window=128).get_dim("nO") == 32


def test_window_beyond_the_pass(checkpoint):
    with pytest.raises(ValueError, match=r"max_batch_wordpieces is 100, .* to 128 or"):
        make_tok2vec(checkpoint, window=128, max_batch_wordpieces=100)


def test_foreign_spans_are_cut_to_a_pass(checkpoint, nlp):
    require("spacy_transformers")
    get_spans = {"@span_getters": "spacy-transformers.doc_spans.v1"}
    with pytest.raises(ValueError, match=r"any window holds. Set it to 16 or more"):
        make_tok2vec(checkpoint, get_spans=get_spans, max_batch_wordpieces=15)
    model = make_tok2vec(checkpoint, get_spans=get_spans, max_batch_wordpieces=64)
    doc = nlp(make_text(0, 30))
    (vectors,) = model.predict([doc])
    assert len(vectors) == len(doc) and np.abs(vectors).min(axis=1).all()


def test_encoder_of_another_width(checkpoint, tmp_path, docs):
    model = make_tok2vec(checkpoint)
    other = make_checkpoint(tmp_path / "wide", hidden_size=64)
    get_shim(model.layers[0]).load(other)
    with pytest.raises(ValueError, match=r"width 64, .* width 32"):
        model.predict(docs)
