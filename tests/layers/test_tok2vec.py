"""What comes after an encoder is trained, and the encoder itself is not."""

import numpy as np
import pytest
import spacy
from thinc.api import Dropout, Linear, chain, reduce_mean

from spacy_modernbert.layers.encode import encode_docs, get_shim
from spacy_modernbert.layers.pool import pool_tokens
from spacy_modernbert.layers.settings import EncoderSettings
from spacy_modernbert.layers.shim import EncoderShim
from spacy_modernbert.layers.tok2vec import modernbert_tok2vec
from spacy_modernbert.span_getters import LongContextSpans

from ..pipelines import loaded_encoder, make_nlp, start, train
from ..util import (
    count_passes,
    entities,
    make_examples,
    make_text,
    make_tok2vec,
    some_entities,
)

TEXTS = [make_text(seed, 5) for seed in range(3)]

# What can predict only, and needs nothing installed.
PREDICTING = [
    {"quantization": {"bits": 8}},
    {"precision": "float16"},
]


def test_an_encoder_that_is_not_trained_predicts(checkpoint, nlp):
    """Nothing is kept for a gradient. Whoever watches still sees how much is read."""
    docs = [nlp(text) for text in [TEXTS[0], "", *TEXTS[1:]]]
    settings = {"window": 64, "overlap": 16, "max_batch_wordpieces": 64}
    frozen = make_tok2vec(checkpoint, grad_factor=0.0, **settings)
    trained = make_tok2vec(checkpoint, **settings)
    counts = [count_passes(model) for model in (frozen, trained)]
    outputs, backprop = frozen.begin_update(docs)
    wanted, _ = trained.begin_update(docs)
    for output, other in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(output, other, atol=1e-5)
    assert backprop([np.ones_like(output) for output in outputs]) == docs
    assert not counts[0].trained and counts[1].trained
    shims = [get_shim(model.layers[0]) for model in (frozen, trained)]
    n_read = [shim.trained_wordpieces for shim in shims]
    assert n_read[0] == n_read[1] > 0


def test_what_pools_is_trained_all_the_same(checkpoint, nlp):
    """A pooling layer may have weights."""
    docs = [nlp(text) for text in TEXTS]
    found = []
    for grad_factor in (0.0, 1.0):
        linear = Linear(4)
        shim = EncoderShim(EncoderSettings(str(checkpoint), backend="cpu"))
        model = modernbert_tok2vec(
            encode_docs(shim, LongContextSpans(512, 32)),
            pool_tokens(chain(reduce_mean(), linear), grad_factor),
        )
        model.initialize(X=docs)
        linear.set_param("W", np.ones_like(linear.get_param("W")))
        outputs, backprop = model.begin_update(docs)
        backprop([np.ones_like(output) for output in outputs])
        found.append(linear.get_grad("W"))
    assert found[0].any()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_what_pools_drops_out_all_the_same(checkpoint, nlp):
    """In training, whether or not a gradient reaches the encoder."""
    docs = [nlp(text) for text in TEXTS]
    for grad_factor in (0.0, 1.0):
        shim = EncoderShim(EncoderSettings(str(checkpoint), backend="cpu"))
        model = modernbert_tok2vec(
            encode_docs(shim, LongContextSpans(512, 32)),
            pool_tokens(chain(reduce_mean(), Dropout(0.5)), grad_factor),
        )
        model.initialize(X=docs)
        outputs, _ = model.begin_update(docs)
        assert 0.4 < np.mean([(output == 0).mean() for output in outputs]) < 0.6
        assert all(output.all() for output in model.predict(docs))


@pytest.mark.parametrize("settings", PREDICTING, ids=str)
def test_encoders_that_cannot_be_trained(checkpoint, settings, tmp_path):
    """What is learned from their vectors is saved with them."""
    nlp = make_nlp(checkpoint, grad_factor=0.0, **settings)
    examples = make_examples(nlp, 4)
    losses = train(nlp, examples, start(nlp, examples), steps=20)
    assert losses[-1] < losses[0]
    assert not loaded_encoder(nlp).can_train
    nlp.to_disk(tmp_path / "nlp")
    wanted = some_entities(nlp.pipe(TEXTS))
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted


@pytest.mark.parametrize("settings", PREDICTING, ids=str)
def test_unless_a_gradient_reaches_them(checkpoint, settings):
    nlp = make_nlp(checkpoint, grad_factor=0.1, **settings)
    examples = make_examples(nlp, 2)
    nlp.initialize(lambda: examples)
    with pytest.raises(ValueError, match="grad_factor = 0"):
        nlp.update(examples)
