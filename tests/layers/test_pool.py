import numpy as np
import pytest
from spacy.tokens import Doc
from thinc.api import (
    Linear,
    NumpyOps,
    chain,
    fix_random_seed,
    reduce_first,
    reduce_last,
    reduce_max,
    reduce_mean,
    reduce_sum,
)

from spacy_modernbert.layers.encode import EncodedDocs
from spacy_modernbert.layers.plan import Plan
from spacy_modernbert.layers.pool import pool_tokens
from spacy_modernbert.types import TokenRows

# Two Docs with an empty one between them. The second token of the first shares a row
# with the first, the third has none, as has the last of all.
ROWS = [[0, 1], [1], [], [], [4, 3, 2], []]
DOC_LENGTHS = [3, 0, 3]


def make_encoded(rows=ROWS, doc_lengths=DOC_LENGTHS, total=6, width=4):
    plan = Plan(
        windows=(),
        window_lengths=np.array([total]),
        batches=(),
        rows=TokenRows(
            np.array([row for token in rows for row in token], dtype=np.int32),
            np.array([len(token) for token in rows], dtype=np.int32),
        ),
        doc_lengths=np.array(doc_lengths, dtype=np.int32),
    )
    vectors = np.random.default_rng(0).normal(size=(total, width)).astype(np.float32)
    return EncodedDocs(plan, vectors)


REDUCERS = {
    reduce_mean: lambda rows: rows.mean(0),
    reduce_sum: lambda rows: rows.sum(0),
    reduce_max: lambda rows: rows.max(0),
    reduce_first: lambda rows: rows[0],
    reduce_last: lambda rows: rows[-1],
}


@pytest.mark.parametrize("reduce", REDUCERS)
def test_one_row_a_token_and_zeros_where_there_is_none(reduce):
    encoded = make_encoded()
    outputs = pool_tokens(reduce(), 1.0).predict(encoded)
    assert [output.shape for output in outputs] == [(3, 4), (0, 4), (3, 4)]
    for row, token in zip(np.concatenate(outputs), ROWS, strict=True):
        wanted = REDUCERS[reduce](encoded.vectors[token]) if token else np.zeros(4)
        np.testing.assert_allclose(row, wanted, atol=1e-6)


@pytest.mark.parametrize("reduce", REDUCERS)
def test_gradient_is_that_of_differences(reduce):
    encoded = make_encoded()
    model = pool_tokens(reduce(), 0.5)
    outputs, backprop = model.begin_update(encoded)
    rng = np.random.default_rng(1)
    d_outputs = [rng.normal(size=out.shape).astype(np.float32) for out in outputs]
    found = backprop(d_outputs)
    assert found.shape == encoded.vectors.shape

    def loss():
        pairs = zip(model.predict(encoded), d_outputs, strict=True)
        return sum(float((out * d_out).sum()) for out, d_out in pairs)

    for index in np.ndindex(encoded.vectors.shape):
        before = encoded.vectors[index]
        encoded.vectors[index] = before + 1e-2
        above = loss()
        encoded.vectors[index] = before - 1e-2
        below = loss()
        encoded.vectors[index] = before
        assert found[index] == pytest.approx(0.5 * (above - below) / 2e-2, abs=1e-3)


@pytest.mark.parametrize("reduce", REDUCERS)
@pytest.mark.parametrize(
    "rows, doc_lengths", [([], []), ([], [0, 0]), ([[], []], [1, 0, 1])]
)
def test_no_wordpieces(reduce, rows, doc_lengths):
    encoded = make_encoded(rows, doc_lengths, total=0)
    outputs, backprop = pool_tokens(reduce(), 1.0).begin_update(encoded)
    assert [output.shape for output in outputs] == [(n, 4) for n in doc_lengths]
    assert not any(output.any() for output in outputs)
    assert backprop(outputs).shape == (0, 4)


def test_pooling_with_weights_of_its_own():
    fix_random_seed(0)
    pooling = chain(reduce_mean(), Linear(nO=7))
    model = pool_tokens(pooling, 0.0)
    encoded = make_encoded()
    model.initialize(X=encoded)
    outputs, backprop = model.begin_update(encoded)
    assert [output.shape for output in outputs] == [(3, 7), (0, 7), (3, 7)]
    d_vectors = backprop([np.ones_like(output) for output in outputs])
    # The factor is for the encoder only.
    assert not d_vectors.any()
    assert pooling.layers[1].get_grad("W").any()


def test_tokens_keep_their_order(nlp, checkpoint):
    from ..util import make_tok2vec

    model = make_tok2vec(checkpoint)
    docs = [nlp("Oslo, they say."), Doc(nlp.vocab), nlp("Anna  Berg")]
    together = model.predict(docs)
    assert [len(output) for output in together] == [len(doc) for doc in docs]
    for doc, output in zip(docs, together, strict=True):
        np.testing.assert_allclose(model.predict([doc])[0], output, atol=1e-5)
    assert isinstance(model.ops, NumpyOps)
