"""What an encoder says of Docs that it reads again."""

import copy
import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import spacy
from spacy.util import registry
from thinc.api import Linear, chain, reduce_mean

from spacy_modernbert.architectures import KeptVectors_v1
from spacy_modernbert.layers import ahead
from spacy_modernbert.layers.encode import encode_docs, get_shim, plan_docs
from spacy_modernbert.layers.kept import KeptVectors
from spacy_modernbert.layers.pool import pool_tokens
from spacy_modernbert.layers.settings import EncoderSettings
from spacy_modernbert.layers.shim import EncoderShim
from spacy_modernbert.layers.tok2vec import KEPT, modernbert_tok2vec
from spacy_modernbert.span_getters import LongContextSpans

from ..pipelines import start, train
from ..util import (
    count_passes,
    entities,
    kept_config,
    make_examples,
    make_text,
    make_tok2vec,
    pickled,
    some_entities,
    tok2vec_config,
)

TEXTS = [make_text(seed, 5) for seed in range(3)]


def keeping(checkpoint, max_mb=10, **changes):
    changes = {"grad_factor": 0.0, "window": 64, "overlap": 16, **changes}
    return KeptVectors_v1(make_tok2vec(checkpoint, **changes), max_mb)


def kept_of(model):
    return model.attrs[KEPT]


@pytest.fixture
def docs(nlp):
    # With an empty one, and one twice.
    return [nlp(text) for text in [TEXTS[0], "", *TEXTS[1:], TEXTS[0]]]


def test_smaller_passes_find_the_same(checkpoint, nlp):
    """As after a device has run out of memory."""
    model = keeping(checkpoint)
    counting = count_passes(model)
    doc = nlp(make_text(3, 13))
    wanted, _ = model.begin_update([doc])
    n_bytes, n_passes = kept_of(model).n_bytes, len(counting.encoded)
    encode = model.layers[0]
    assert len(plan_docs(encode, [doc]).batches) == 1
    get_shim(encode).budget.wordpieces = 64
    assert len(plan_docs(encode, [doc]).batches) == 3
    found, _ = model.begin_update([doc])
    assert kept_of(model).n_bytes == n_bytes
    assert len(counting.encoded) == n_passes > 0
    np.testing.assert_array_equal(found[0], wanted[0])


def test_the_same_vectors(checkpoint, docs):
    """In any epoch, and in any order. Whoever watches sees the same be read."""
    model = keeping(checkpoint)
    wanted = model.predict(docs)
    shim = get_shim(model.layers[0])
    read = []
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2], [], [0, 3]):
        before = shim.trained_wordpieces
        found, backprop = model.begin_update([docs[i] for i in order])
        for i, rows in zip(order, found, strict=True):
            np.testing.assert_allclose(rows, wanted[i], atol=1e-5)
            # It is the caller's.
            rows += 1
        assert backprop(found) == [docs[i] for i in order]
        read.append(shim.trained_wordpieces - before)
    assert kept_of(model).n_bytes == sum(rows.nbytes for rows in wanted[:4])
    assert read[0] == read[1] > read[4] > read[3] == 0


def test_read_once(checkpoint, docs):
    model = keeping(checkpoint)
    counting = count_passes(model)
    model.begin_update(docs)
    n_passes = len(counting.encoded)
    assert n_passes
    model.begin_update(docs[2:])
    assert len(counting.encoded) == n_passes


def test_what_is_predicted_in_a_training_is_kept(checkpoint, docs):
    """The documents on which it is evaluated, but not those of any pipeline."""
    model = keeping(checkpoint)
    counting = count_passes(model)
    wanted = model.predict(docs)
    assert kept_of(model).n_bytes == 0
    model.begin_update(docs[:1])
    n_passes, read = len(counting.encoded), get_shim(model.layers[0]).trained_wordpieces
    for _ in range(2):
        found = model.predict(docs)
        for rows, others in zip(found, wanted, strict=True):
            np.testing.assert_allclose(rows, others, atol=1e-5)
            rows += 1
    assert kept_of(model).n_bytes == sum(rows.nbytes for rows in wanted[:4])
    assert n_passes < len(counting.encoded) < 2 * n_passes + len(docs)
    n_passes = len(counting.encoded)
    model.predict(docs)
    assert len(counting.encoded) == n_passes
    assert get_shim(model.layers[0]).trained_wordpieces == read


def test_standardized(checkpoint, docs):
    """Vectors are kept as the encoder makes them, and given as they are used."""
    bare, model = (
        make_tok2vec(
            checkpoint, standardize=True, grad_factor=0.0, window=64, overlap=16
        )
        for _ in range(2)
    )
    model = KeptVectors_v1(model, 10)
    for each in (bare, model):
        each.initialize(X=docs)
    counting = count_passes(model)
    wanted = bare.predict(docs)
    assert not np.allclose(wanted[0], bare.layers[0].predict(docs)[0], atol=1e-2)
    n_passes = []
    for _ in range(2):
        found, backprop = model.begin_update(docs)
        for rows, others in zip(found, wanted, strict=True):
            np.testing.assert_allclose(rows, others, atol=1e-4)
        assert backprop(found) == docs
        n_passes.append(len(counting.encoded))
    assert n_passes[1] == n_passes[0] > 0


def test_vectors_of_a_doc_do_not_hold_a_pass(checkpoint, docs):
    """Docs may keep them."""
    model = keeping(checkpoint)
    model.begin_update(docs[:1])
    found = [*model.predict(docs), *model.begin_update(docs)[0]]
    assert all(rows.base is None for rows in found)


def test_told_apart_by_tokens(checkpoint, nlp):
    """The same text may be other tokens."""
    model = keeping(checkpoint)
    whole = nlp(TEXTS[0])
    merged = nlp(TEXTS[0])
    with merged.retokenize() as retokenizer:
        retokenizer.merge(merged[:2])
    (rows,), _ = model.begin_update([whole])
    (others,), _ = model.begin_update([merged])
    assert len(others) == len(rows) - 1
    (wanted,) = model.predict([merged])
    np.testing.assert_allclose(others, wanted, atol=1e-5)


def test_what_came_first_is_kept(checkpoint, nlp):
    docs = [nlp(text) for text in TEXTS]
    (size, *_) = sizes = [rows.nbytes for rows in keeping(checkpoint).predict(docs)]
    assert 2 * size > 1.5 * max(sizes)
    model = keeping(checkpoint, max_mb=1.5 * size / 1e6)
    counting = count_passes(model)
    n_passes = []
    with pytest.warns(UserWarning, match=r"kept: 1\)") as caught:
        for doc in [*docs, *docs]:
            model.begin_update([doc])
            n_passes.append(len(counting.encoded))
    # Once, and not for each document.
    (message,) = [str(each.message) for each in caught if "max_mb" in str(each.message)]
    assert f"a token takes {4 * model.get_dim('nO')} bytes" in message
    assert kept_of(model).n_bytes == size
    assert n_passes[3] == n_passes[2] < n_passes[4] < n_passes[5]


def test_of_another_encoder_nothing_is_known(checkpoint, docs):
    model = keeping(checkpoint)
    model.begin_update(docs)
    (rows, *_), _ = model.begin_update(docs)
    shim = get_shim(model.layers[0])
    encoder = shim.loaded.encoder
    weight = "final_norm.weight"
    doubled = encoder.copy({weight: 2 * encoder.tensors()[weight]})
    shim._loaded = replace(shim.loaded, encoder=doubled)
    (others, *_), _ = model.begin_update(docs)
    np.testing.assert_allclose(others, 2 * rows, rtol=1e-3, atol=1e-5)


def train_keeping(checkpoint, **settings):
    """A pipeline that was trained for a moment; and what counts its passes."""
    nlp = spacy.blank("en")
    config = {"model": {"tok2vec": kept_config(checkpoint)}, **settings}
    nlp.add_pipe("modernbert_ner", config=config)
    examples = make_examples(nlp, 4)
    optimizer = start(nlp, examples)
    counting = count_passes(nlp.get_pipe("modernbert_ner").model)
    losses = train(nlp, examples, optimizer, steps=20)
    assert losses[-1] < losses[0]
    assert len(counting.encoded) < 20
    return nlp, counting


def test_another_encoder_is_not_held(checkpoint, docs):
    model = keeping(checkpoint)
    model.begin_update(docs)
    shim = get_shim(model.layers[0])
    before = weakref.ref(shim.loaded.encoder)
    shim.from_bytes(shim.to_bytes())
    gc.collect()
    assert before() is None
    counting = count_passes(model)
    model.begin_update(docs)
    assert counting.encoded


def test_dropped_by_another_thread_meanwhile(checkpoint, nlp):
    """As where a pipeline is loaded while another thread predicts."""
    model = keeping(checkpoint)
    docs = [nlp(text) for text in TEXTS]
    wanted, _ = model.begin_update(docs[:1])
    encode, kept = model.layers[0], kept_of(model)
    plans = [plan_docs(encode, [doc]) for doc in docs]

    def make(missing):
        kept._forget(None)
        return [np.zeros((len(docs[i]), wanted[0].shape[1]), "f") for i in missing]

    found = kept.recall(get_shim(encode).loaded.encoder, plans, make)
    np.testing.assert_array_equal(found[0], wanted[0])
    # What the old encoder has made is not for the new one.
    assert kept.n_bytes == 0 and not kept._vectors


def test_a_pipeline_learns(checkpoint, tmp_path):
    """From what is kept. That is not saved, nor sent to other processes."""
    nlp, counting = train_keeping(checkpoint)
    wanted = some_entities(nlp.pipe(TEXTS))
    n_passes = len(counting.encoded)
    assert entities(nlp.pipe(TEXTS)) == wanted
    assert entities(map(nlp, TEXTS)) == wanted
    assert len(counting.encoded) == n_passes
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    counting = count_passes(loaded.get_pipe("modernbert_ner").model)
    for n_passes in (1, 2):
        assert entities(loaded.pipe(TEXTS)) == wanted
        assert len(counting.encoded) == n_passes


def test_what_is_held_at_once(checkpoint, monkeypatch):
    """Memory is bounded where vectors are kept as it is without: by Docs of one batch,
    however many there are.
    """
    nlp, _ = train_keeping(checkpoint)
    wanted = some_entities(nlp.pipe(TEXTS))
    monkeypatch.setattr(ahead, "N_PASSES_ON_CPU", 50 / 16384)
    ner = nlp.get_pipe("modernbert_ner")
    predict, n_tokens = ner.predict, []

    def watched(docs):
        n_tokens.append(sum(map(len, docs)))
        return predict(docs)

    monkeypatch.setattr(ner, "predict", watched)
    assert entities(nlp.pipe(TEXTS)) == wanted
    longest = max(len(nlp.make_doc(text)) for text in TEXTS)
    assert len(n_tokens) > 1 and max(n_tokens) < 50 + longest


def test_vectors_of_docs_are_not_kept(checkpoint):
    nlp, _ = train_keeping(checkpoint, set_doc_vector=True)
    for doc in nlp.pipe(TEXTS):
        np.testing.assert_allclose(doc.vector, nlp(doc.text).vector, atol=1e-4)
        assert doc.vector.any()


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_have_the_setting_only(checkpoint, docs, copied):
    model = keeping(checkpoint, max_mb=3)
    model.begin_update(docs)
    kept = kept_of(model)
    assert kept.n_bytes
    other = copied(kept)
    assert isinstance(other, KeptVectors)
    assert (other.n_bytes, other.max_bytes) == (0, 3_000_000)


@pytest.mark.parametrize("value", [0, -1, True, "1", float("nan"), float("inf")])
def test_wrong_size(checkpoint, value):
    with pytest.raises(ValueError, match="max_mb must be a number of megabytes"):
        keeping(checkpoint, max_mb=value)


def test_encoders_that_are_trained():
    config = tok2vec_config("nowhere", grad_factor=0.5)
    model = registry.resolve({"model": config})["model"]
    with pytest.raises(ValueError, match=r"grad_factor is 0\.5"):
        KeptVectors_v1(model, 10)


def test_pooling_that_is_trained():
    shim = EncoderShim(EncoderSettings("nowhere"))
    model = modernbert_tok2vec(
        encode_docs(shim, LongContextSpans(512, 32)),
        pool_tokens(chain(reduce_mean(), Linear(4)), 0.0),
    )
    with pytest.raises(ValueError, match="has weights that are trained"):
        KeptVectors_v1(model, 10)


def test_no_encoder():
    with pytest.raises(ValueError, match="keeps the vectors of one encoder"):
        KeptVectors_v1(Linear(2), 10)
