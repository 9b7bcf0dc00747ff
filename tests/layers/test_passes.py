import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from spacy.tokens import Doc

from spacy_modernbert.encoder.pooling import pool_means
from spacy_modernbert.encoder.protocol import EncoderOutOfMemory
from spacy_modernbert.layers import budget
from spacy_modernbert.layers.budget import Budget
from spacy_modernbert.layers.encode import get_shim, plan_docs
from spacy_modernbert.layers.passes import encode_batches, pool_passes
from spacy_modernbert.layers.plan import Plan
from spacy_modernbert.types import PackedBatch, TokenRows

from ..util import (
    assert_same_gradients,
    count_passes,
    gradients_of_model,
    make_checkpoint,
    make_text,
    make_tok2vec,
    put_on_small_device,
    require,
)


@pytest.fixture(scope="module")
def docs(nlp):
    sizes = [2, 9, 0, 1, 30, 4]
    return [nlp(make_text(seed, n)) if n else nlp("") for seed, n in enumerate(sizes)]


@pytest.mark.parametrize("pooling", ["reduce_mean.v1", "reduce_max.v1"])
@pytest.mark.parametrize("budget", [64, 200])
def test_vectors_do_not_depend_on_the_budget(checkpoint, docs, budget, pooling):
    pooling = {"@layers": pooling}
    wanted = make_tok2vec(checkpoint, window=64, pooling=pooling).predict(docs)
    model = make_tok2vec(
        checkpoint, window=64, pooling=pooling, max_batch_wordpieces=budget
    )
    passes = count_passes(model)
    found = model.predict(docs)
    assert len(passes.encoded) > 1 and max(passes.encoded) <= budget
    assert [rows.shape for rows in found] == [(len(doc), 32) for doc in docs]
    for rows, wanted_rows in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)


def test_a_pooling_that_changes_the_width(checkpoint, docs):
    """And does not say so: thinc's has no `nO` for what it puts together."""
    pooling = {
        "@layers": "concatenate.v1",
        "*": {"a": {"@layers": "reduce_mean.v1"}, "b": {"@layers": "reduce_max.v1"}},
    }
    wanted = make_tok2vec(checkpoint, window=64, pooling=pooling).predict(docs)
    model = make_tok2vec(
        checkpoint, window=64, pooling=pooling, max_batch_wordpieces=64
    )
    found = model.predict(docs)
    assert [rows.shape for rows in found] == [(len(doc), 64) for doc in docs]
    for rows, wanted_rows in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)
    (rows,) = model.predict([docs[2]])
    assert rows.shape == (0, 64)


def test_prediction_and_training_give_the_same_vectors(checkpoint, docs):
    model = make_tok2vec(checkpoint, window=64, max_batch_wordpieces=200)
    trained, _ = model.begin_update(docs)
    for rows, wanted in zip(model.predict(docs), trained, strict=True):
        np.testing.assert_allclose(rows, wanted, atol=1e-5)


def test_tokens_in_order_whatever_the_windows():
    """Tokens of one Doc in several passes, the later ones first, and some in none."""
    lengths = [1, 1, 0, 1, 2, 0]
    rows = TokenRows(np.array([4, 0, 5, 1, 2]), np.array(lengths))
    plan = Plan(
        windows=(),
        window_lengths=np.array([3, 3]),
        batches=(batch_of([3]), batch_of([3])),
        rows=rows,
        doc_lengths=np.array([0, 4, 2]),
    )
    hidden = iter(np.arange(6, dtype=np.float32)[:, None].reshape(2, 3, 1))
    found = pool_passes(
        plan, lambda b, r, start: pool_means(next(hidden), r), 1, Budget(3)
    )
    assert [x.ravel().tolist() for x in found] == [[], [4, 0, 0, 5], [1.5, 0]]


def batch_of(lengths):
    cu = np.cumsum([0, *lengths], dtype=np.int32)
    return PackedBatch(np.zeros(cu[-1], np.int64), cu)


@pytest.mark.parametrize("batch", [[], [Doc], [Doc, Doc]])
def test_nothing_to_encode(checkpoint, nlp, batch):
    model = make_tok2vec(checkpoint)
    passes = count_passes(model)
    found = model.predict([make(nlp.vocab) for make in batch])
    assert [rows.shape for rows in found] == [(0, 32)] * len(batch)
    assert passes.encoded == []


# -- Memory -----------------------------------------------------------------------


def test_smaller_passes_where_memory_is_short(checkpoint, docs):
    model = make_tok2vec(checkpoint, window=64)
    wanted = model.predict(docs)
    device = put_on_small_device(model, 150)
    with pytest.warns(UserWarning, match="passes hold"):
        found = model.predict(docs)
    assert max(device.encoded) <= 150
    for rows, wanted_rows in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)
    # It is remembered, and not said again.
    n_refused = len(device.refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(docs)
        layer = model.layers[0]
        layer.predict(docs)
    assert len(device.refused) == n_refused
    assert get_shim(layer).budget.wordpieces <= 150


def test_larger_passes_where_there_is_memory_again(checkpoint, docs, monkeypatch):
    monkeypatch.setattr(budget, "_PATIENCE", 3)
    model = make_tok2vec(checkpoint, window=64)
    wanted = model.predict(docs)
    device = put_on_small_device(model, 150)
    with pytest.warns(UserWarning, match="passes hold"):
        model.predict(docs)
    device.memory = 10_000
    for _ in range(20):
        found = model.predict(docs)
    assert device.encoded[-1] == plan_docs(model.layers[0], docs).total > 300
    for rows, wanted_rows in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)


def test_windows_do_not_depend_on_memory(checkpoint, docs):
    """Those of other span getters are cut to a pass as the settings have it, and not as
    there happened to be memory."""
    require("spacy_transformers")
    whole = {"@span_getters": "spacy-transformers.doc_spans.v1"}
    model = make_tok2vec(checkpoint, get_spans=whole, max_batch_wordpieces=512)
    wanted = model.predict(docs)
    longest = max(plan_docs(model.layers[0], docs).window_lengths)
    put_on_small_device(model, longest)
    with pytest.warns(UserWarning, match="passes hold"):
        model.predict(docs)
    assert get_shim(model.layers[0]).budget.wordpieces < longest
    for rows, wanted_rows in zip(model.predict(docs), wanted, strict=True):
        np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)


def test_no_memory_for_one_window(checkpoint, docs):
    model = make_tok2vec(checkpoint, window=64)
    device = put_on_small_device(model, 20)
    with pytest.warns(UserWarning), pytest.raises(EncoderOutOfMemory):
        model.predict(docs)
    assert min(device.refused) <= 64
    with pytest.raises(EncoderOutOfMemory):
        model.begin_update(docs)


@pytest.mark.parametrize("n_failures", [1, 2])
def test_a_pass_that_may_fit_is_made_again(checkpoint, docs, monkeypatch, n_failures):
    """Once, and as large as it was, since only another library had too little."""
    model = make_tok2vec(checkpoint, window=64)
    wanted = model.predict(docs)
    device = put_on_small_device(model, 10**6)
    encode, tried = device.encode_tokens, []

    def fail_first(batch, rows):
        tried.append(batch.total)
        if len(tried) <= n_failures:
            raise EncoderOutOfMemory("none for cuBLAS", may_fit=True)
        return encode(batch, rows)

    monkeypatch.setattr(device, "encode_tokens", fail_first)
    said = nullcontext() if n_failures == 1 else pytest.warns(match="passes hold")
    with said:
        found = model.predict(docs)
    whole = plan_docs(model.layers[0], docs).total
    assert tried[:2] == [whole] * 2 and (len(tried) > 2) == (n_failures > 1)
    for rows, wanted_rows in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)


def test_a_gradient_that_may_fit_is_computed_again(checkpoint, docs, monkeypatch):
    found, tried = [], []
    for fails in (False, True):
        model = make_tok2vec(checkpoint, window=64)
        device = put_on_small_device(model, 10**6)
        encode = device.encode_train

        def fail_first(batch, encode=encode):
            tried.append(batch.total)
            output, backprop = encode(batch)
            return output, backprop if len(tried) > 1 else fail

        def fail(d_output):
            raise EncoderOutOfMemory("none for cuBLAS", may_fit=True)

        if fails:
            monkeypatch.setattr(device, "encode_train", fail_first)
        encoded, backprop = model.layers[0].begin_update(docs)
        backprop(np.ones_like(encoded.vectors))
        found.append(gradients_of_model(model))
    assert tried == [encoded.plan.total] * 2
    assert_same_gradients(found[1], found[0])


@pytest.mark.parametrize("memory", [(150,), (10**6, 150), (70, 65)])
def test_training_where_memory_is_short(checkpoint, docs, memory):
    """On the way there, or on the way back: the same update as by one pass."""
    found = []
    for small in (False, True):
        model = make_tok2vec(checkpoint, window=64)
        if small:
            device = put_on_small_device(model, *memory)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoded, backprop = model.layers[0].begin_update(docs)
            assert len(encoded.plan.batches) == 1
            rng = np.random.default_rng(0)
            d_vectors = rng.normal(size=encoded.vectors.shape).astype(np.float32)
            backprop(d_vectors)
        found.append((encoded.vectors, gradients_of_model(model)))
    assert device.refused and device.held == 0
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    assert_same_gradients(found[1][1], found[0][1])


def test_dropout_is_not_drawn_twice(tmp_path, docs):
    checkpoint = make_checkpoint(tmp_path / "drops", mlp_dropout=0.5)
    model = make_tok2vec(checkpoint, window=64)
    put_on_small_device(model, 10**6, 150)
    encoded, backprop = model.layers[0].begin_update(docs)
    with pytest.raises(EncoderOutOfMemory):
        backprop(np.ones_like(encoded.vectors))


def test_no_batches(checkpoint):
    encoder = get_shim(make_tok2vec(checkpoint).layers[0]).loaded.encoder
    vectors, backprop = encode_batches(encoder, [], Budget(64), is_train=True)
    assert vectors.shape == (0, encoder.config.hidden_size)
    backprop(vectors)
