"""Vectors of tokens, centred and scaled."""

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model

from spacy_modernbert import components
from spacy_modernbert.layers.standardize import standardized
from spacy_modernbert.layers.tok2vec import OneWord

from ..pipelines import draw_scores, ner_config, nlp_of, shim_of
from ..util import (
    assert_same_gradients,
    count_passes,
    entities,
    gradients_of_model,
    make_examples,
    make_text,
    make_tok2vec,
    pickled,
    some_entities,
    tok2vec_config,
)

TEXTS = [make_text(seed, 5) for seed in range(6)]


@pytest.fixture(scope="module")
def docs(nlp):
    return [nlp(text) for text in [TEXTS[0], "", *TEXTS[1:]]]


SETTINGS = {"window": 64, "overlap": 16}


@pytest.fixture
def model(checkpoint):
    return make_tok2vec(checkpoint, standardize=True, **SETTINGS)


def make_nlp(checkpoint, standardize=True, **settings):
    tok2vec = tok2vec_config(checkpoint, standardize=standardize, **SETTINGS)
    return nlp_of(ner=ner_config(tok2vec, "modernbert_ner", **settings))


def scaling_of(nlp):
    model = nlp.get_pipe("ner").model
    return next(node for node in model.walk() if node.name == "standardize")


def test_mean_and_deviation(model, docs):
    model.initialize(X=docs)
    vectors = model.predict(docs)
    assert [rows.shape for rows in vectors] == [(len(doc), 32) for doc in docs]
    rows = np.concatenate(vectors)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-4)
    (plain,) = model.layers
    wanted = np.concatenate(plain.predict(docs))
    wanted = (wanted - wanted.mean(axis=0)) / wanted.std(axis=0)
    np.testing.assert_allclose(rows, wanted, atol=1e-4)


def test_the_gradient(model, checkpoint, docs):
    model.initialize(X=docs)
    vectors, backprop = model.begin_update(docs)
    rng = np.random.default_rng(0)
    d_vectors = [rng.normal(size=rows.shape).astype("f") for rows in vectors]
    assert backprop(d_vectors) == docs
    plain = make_tok2vec(checkpoint, **SETTINGS)
    _, backprop = plain.begin_update(docs)
    backprop([each * model.get_param("scale") for each in d_vectors])
    assert_same_gradients(gradients_of_model(model), gradients_of_model(plain))


def test_a_sample_is_enough(model, nlp):
    """Of each document, and not the first ones whole."""
    long = [nlp(make_text(seed, 400)) for seed in range(3)]
    model.initialize(X=long[:1])
    passes = count_passes(model)
    model.initialize(X=long)
    read = sum(passes.encoded)
    assert 2000 < read < 0.5 * sum(map(len, long))
    assert passes.trained == []
    rows = np.concatenate(model.predict(long))
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=0.2)


@pytest.mark.parametrize(
    "texts", [None, [], [""], ["", " "], ["Oslo"], ["no " * 40], ["x y z"]]
)
def test_nothing_to_measure(model, docs, nlp, texts):
    model.initialize(X=None if texts is None else [nlp(text) for text in texts])
    for found, wanted in zip(
        model.predict(docs), model.layers[0].predict(docs), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_word_that_stands_for_docs(model, docs):
    word = OneWord(docs)
    model.initialize(X=word)
    assert abs(np.concatenate(model.predict(docs)).mean()) < 1e-5
    assert not model.predict(word)[0].any()


def test_what_hardly_varies_is_not_blown_up():
    rows = np.zeros((4, 3), "f")
    rows[:, 0] = [1, 2, 3, 4]
    rows[:, 1] = [1, 1, 1, 1 + 1e-6]
    words = ["a", "b", "c", "d"]
    # A token that no wordpiece covers has zeros.
    table = {" ": np.zeros(3, "f"), **dict(zip(words, rows, strict=True))}

    def forward(model, docs, is_train):
        found = [np.stack([table[token.text] for token in doc]) for doc in docs]
        return found, lambda d_vectors: docs

    model = standardized(Model("lookup", forward, dims={"nO": 3}))
    doc = Doc(Vocab(), words=[*words, " "] * 20)
    model.initialize(X=[doc])
    (found,) = model.predict([doc])
    assert np.abs(found[:, 1:]).max() < 1e-4 < 1 < np.abs(found[:, 0]).max()
    np.testing.assert_allclose(found[:, 0].mean(), 0, atol=1e-6)
    assert not found[4::5].any()


def test_a_pipeline(checkpoint, tmp_path):
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 8)
    nlp.initialize(lambda: examples)
    sgd = nlp.create_optimizer()
    sgd.learn_rate = 0.003
    losses = [nlp.update(examples, sgd=sgd, losses={})["ner"] for _ in range(20)]
    assert losses[-1] < losses[0]
    assert not np.allclose(scaling_of(nlp).get_param("scale"), 1)
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp.to_disk(tmp_path / "nlp")
    assert (tmp_path / "nlp" / "ner" / "encoder").is_dir()
    loaded = spacy.load(tmp_path / "nlp")
    assert entities(loaded.pipe(TEXTS)) == wanted
    assert entities(pickled(nlp).pipe(TEXTS)) == wanted
    assert entities(nlp.pipe(TEXTS, n_process=2, batch_size=2)) == wanted


def test_the_first_ten_documents_are_measured(checkpoint):
    """As spaCy gives no more."""
    found = []
    for n in (12, 10, 9):
        nlp = make_nlp(checkpoint)
        examples = make_examples(nlp, n)
        nlp.initialize(lambda examples=examples: examples)
        found.append(scaling_of(nlp).get_param("scale"))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[1] != found[2]).any()


def test_vectors_of_docs_are_the_encoder_s(checkpoint):
    vectors = []
    for standardize in (True, False):
        nlp = make_nlp(checkpoint, standardize, set_doc_vector=True)
        examples = make_examples(nlp, 8)
        nlp.initialize(lambda examples=examples: examples)
        vectors.append(nlp(TEXTS[0]).vector)
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("n_tokens", [49, 50])
def test_the_least(model, nlp, n_tokens):
    doc = nlp(make_text(0, 20))[:n_tokens].as_doc()
    model.initialize(X=[doc])
    assert (model.get_param("scale") == 1).all() == (n_tokens < 50)


def test_whatever_decodes(checkpoint, monkeypatch):
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 8)
    nlp.initialize(lambda: examples)
    draw_scores(nlp.get_pipe("ner"))
    wanted = some_entities(nlp.pipe(TEXTS))
    monkeypatch.setattr(components, "import_compiled", lambda name: None)
    assert entities(nlp.pipe(TEXTS)) == wanted


def test_beside_the_bare_encoder(checkpoint, docs):
    """What is saved of one is not taken for the other."""
    bare = make_tok2vec(checkpoint).to_bytes()
    model = make_tok2vec(checkpoint, standardize=True)
    with pytest.raises(ValueError, match="mismatched"):
        model.from_bytes(bare)


def test_before_it_is_initialized(checkpoint):
    nlp = make_nlp(checkpoint)
    with pytest.raises(ValueError, match=r"Call nlp\.initialize"):
        list(nlp.pipe(TEXTS))


def test_settings_of_the_encoder(checkpoint, tmp_path):
    """Settings of the encoder stand where they stand without it."""
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 8)
    nlp.initialize(lambda: examples)
    draw_scores(nlp.get_pipe("ner"))
    nlp.to_disk(tmp_path / "nlp")
    changes = {"components.ner.model.tok2vec.max_batch_wordpieces": 128}
    loaded = spacy.load(tmp_path / "nlp", config=changes)
    assert shim_of(loaded, "ner").settings.max_batch_wordpieces == 128
    assert entities(loaded.pipe(TEXTS)) == some_entities(nlp.pipe(TEXTS))
