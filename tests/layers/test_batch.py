import numpy as np
import pytest
from spacy.util import registry
from thinc.api import reduce_max, reduce_mean
from tokenizers import Tokenizer, normalizers

from ..util import (
    assert_same_gradients,
    count_passes,
    gradients_of_model,
    make_checkpoint,
    make_text,
    make_tok2vec,
    require,
    tok2vec_config,
)

require("spacy_transformers")

from spacy_transformers.data_classes import (  # noqa: E402
    FullTransformerBatch,
    TransformerData,
)
from spacy_transformers.layers import trfs2arrays  # noqa: E402

from spacy_modernbert.layers.batch import replace_listener_cfg  # noqa: E402

BATCH = "spacy-modernbert.ModernBertModel.v1"
TEXTS = [make_text(0, 12), "", "  \n ", make_text(1, 1), make_text(2, 30)]


def make_batch_model(checkpoint, **changes):
    config = tok2vec_config(checkpoint, **{"@architectures": BATCH}, **changes)
    del config["pooling"]
    return registry.resolve({"model": config})["model"].initialize()


@pytest.fixture(scope="module")
def docs(nlp):
    return [nlp(text) for text in TEXTS]


@pytest.fixture
def model(checkpoint):
    return make_batch_model(checkpoint, window=64, overlap=16)


def test_parts_fit_each_other(model, docs):
    batch = model.predict(docs)
    assert isinstance(batch, FullTransformerBatch)
    hidden = batch.model_output.last_hidden_state
    rows = sum(len(spans) for spans in batch.spans)
    assert hidden.shape == (rows, *batch.wordpieces.input_ids.shape[1:], 32)
    assert len(batch.wordpieces) == rows == len(batch.wordpieces.lengths)
    assert [len(strings) for strings in batch.wordpieces.strings] == (
        batch.wordpieces.lengths
    )
    mask = batch.wordpieces.attention_mask
    assert mask.sum(1).tolist() == batch.wordpieces.lengths
    assert not hidden.numpy()[mask == 0].any()
    assert batch.align.lengths.size == sum(len(doc) for doc in docs)
    assert batch.align.lengths.min() >= 1
    for doc, spans in zip(docs, batch.spans, strict=True):
        assert {token.i for span in spans for token in span} == set(range(len(doc)))


@pytest.mark.parametrize(
    ("spans", "place"),
    [
        ([(0, 8), (3, 5)], "ends before token 5"),
        ([(3, 5), (0, 8)], "starts at token 3"),
    ],
)
def test_spans_that_do_not_end_with_the_doc(checkpoint, nlp, spans, place):
    """spacy-transformers would take fewer tokens for those of the Doc."""
    docs = [nlp("one two three four five six seven eight")]
    model = make_batch_model(checkpoint)
    model.attrs["get_spans"] = lambda docs: [
        [doc[start:end] for start, end in spans] for doc in docs
    ]
    with pytest.raises(ValueError, match=f"Doc of 8 tokens.*{place}"):
        model.predict(docs)
    inline = make_tok2vec(checkpoint)
    inline.layers[0].attrs["get_spans"] = model.attrs["get_spans"]
    assert [len(rows) for rows in inline.predict(docs)] == [8]


def test_tokens_have_their_own_wordpieces(model, docs):
    batch = model.predict(docs)
    strings = np.array(
        [
            row + [""] * (batch.wordpieces.input_ids.shape[1] - len(row))
            for row in batch.wordpieces.strings
        ]
    ).ravel()
    tokens = [token for doc in docs for token in doc]
    ends = np.cumsum(batch.align.lengths)
    for token, end, length in zip(tokens, ends, batch.align.lengths, strict=True):
        pieces = strings[batch.align.dataXd[end - length : end]]
        if not token.is_space:
            assert "".join(pieces).lstrip("Ġ") == token.text


def test_each_doc_gets_its_part(model, docs):
    batch = model.predict(docs)
    assert len(batch.doc_data) == len(docs)
    for doc, data in zip(docs, batch.doc_data, strict=True):
        assert isinstance(data, TransformerData)
        assert data.align.lengths.size == len(doc)
        if len(doc):
            alone = model.predict([doc]).doc_data[0]
            for reduce in (reduce_mean(), reduce_max()):
                pool = trfs2arrays(reduce, 1.0)
                np.testing.assert_allclose(
                    *[pool.predict([each])[0] for each in (data, alone)], atol=1e-5
                )


@pytest.mark.parametrize("reduce", [reduce_mean, reduce_max])
def test_the_same_vectors_and_gradients_as_inline(checkpoint, model, docs, reduce):
    inline = make_tok2vec(checkpoint, window=64, overlap=16)
    inline.layers[1].layers[0] = reduce()
    docs = [doc for doc in docs if len(doc)]
    wanted, backprop_inline = inline.begin_update(docs)
    batch, backprop_batch = model.begin_update(docs)
    pool = trfs2arrays(reduce(), 1.0)
    found, backprop_pool = pool.begin_update(batch.doc_data)
    rng = np.random.default_rng(0)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    d_outputs = [rng.normal(size=out.shape).astype(np.float32) for out in wanted]
    backprop_inline([d_output.copy() for d_output in d_outputs])
    d_batch = batch.unsplit_by_doc([list(d.tensors) for d in backprop_pool(d_outputs)])
    backprop_batch(d_batch)
    assert_same_gradients(gradients_of_model(model), gradients_of_model(inline))


@pytest.mark.parametrize("reduce", [reduce_mean, reduce_max])
def test_tokens_without_wordpieces(tmp_path, nlp, reduce):
    """Beside others, after them where a window is full, and alone in a Doc."""
    folder = make_checkpoint(tmp_path / "drops")
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.save(str(path))
    texts = ["\x01 Anna \x01 Berg \x01", "\x01 \x01", "Oslo", "one \x01 " * 30]
    docs = [nlp(text) for text in texts]
    inline = make_tok2vec(folder, window=16, overlap=4)
    inline.layers[1].layers[0] = reduce()
    model = make_batch_model(folder, window=16, overlap=4)
    pool = trfs2arrays(reduce(), 1.0)
    together = pool.predict(model.predict(docs).doc_data)
    for doc, rows, wanted in zip(docs, together, inline.predict(docs), strict=True):
        alone = [*pool.predict(model.predict([doc]).doc_data), *inline.predict([doc])]
        np.testing.assert_allclose(rows, wanted, atol=1e-6)
        np.testing.assert_allclose(alone, [wanted] * 2, atol=1e-5)
        assert [token.text == "\x01" for token in doc] == (~rows.any(axis=1)).tolist()


@pytest.mark.parametrize("texts", [[""], ["", ""], ["  "], []])
def test_little_or_nothing(model, nlp, texts):
    batch = model.predict([nlp(text) for text in texts])
    assert [len(data.align.lengths) for data in batch.doc_data] == (
        [len(nlp(text)) for text in texts]
    )


def test_the_budget_holds(checkpoint, docs):
    model = make_batch_model(checkpoint, window=64, max_batch_wordpieces=130)
    passes = count_passes(model)
    batch, backprop = model.begin_update(docs)
    assert max(passes.encoded + passes.trained) <= 130
    assert passes.held == 1
    data = [data for data in batch.doc_data if data.tensors]
    backprop(batch.unsplit_by_doc([list(each.tensors) for each in data]))
    assert max(passes.encoded + passes.trained) <= 130 and passes.held == 0


def test_in_the_place_of_a_listener(checkpoint, model, docs):
    replaced = model.attrs["replace_listener"](model.copy())
    assert replaced.get_dim("nO") == 32
    outputs, backprop = replaced.begin_update(docs)
    for output, data in zip(outputs, model.predict(docs).doc_data, strict=True):
        assert len(output.tensors) == len(data.tensors)
        for one, other in zip(output.tensors, data.tensors, strict=True):
            # Predicting computes in place, which rounds the last bits otherwise.
            np.testing.assert_allclose(one, other, atol=1e-5)
    backprop([output for output in outputs if output.tensors])
    assert gradients_of_model(replaced)["final_norm.weight"].any()
    empty, backprop = replaced.begin_update(docs[1:2])
    assert backprop([]) == docs[1:2] and empty[0].tensors == ()


def test_one_long_doc_does_not_pad_the_others(checkpoint, nlp):
    """A pipe predicts hundreds at once, of whatever lengths."""
    model = make_batch_model(checkpoint)
    replaced = model.attrs["replace_listener"](model)
    docs = [nlp(make_text(seed, 1)) for seed in range(9)]
    docs = [*docs[:4], nlp(make_text(9, 60)), *docs[4:], nlp(""), nlp(" ")]
    pool = trfs2arrays(reduce_mean(), 1.0)
    found = replaced.predict(docs)
    alone = [replaced.predict([doc])[0] for doc in docs]
    for one, other in zip(pool.predict(found), pool.predict(alone), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    n_padded = sum(data.wordpieces.input_ids.size for data in found)
    assert n_padded < 3 * sum(sum(data.wordpieces.lengths) for data in found)


def test_config_in_the_place_of_a_listener():
    model = {"@architectures": BATCH, "name": "x", "backend": "cpu"}
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "pooling": {"@layers": "reduce_max.v1"},
        "grad_factor": 0.5,
        "upstream": "*",
    }
    assert replace_listener_cfg(model, listener) == {
        "@architectures": "spacy-modernbert.Tok2VecModernBert.v1",
        "name": "x",
        "backend": "cpu",
        "pooling": {"@layers": "reduce_max.v1"},
        "grad_factor": 0.5,
    }
    assert replace_listener_cfg(model, {"@architectures": "mine.v1"}) == model
    # The listener may be one layer of several: spaCy gives the config of them all.
    replaced = replace_listener_cfg(model, listener)
    words = {"@architectures": "spacy.MultiHashEmbed.v2", "width": 8}
    beside = {"@layers": "concatenate.v1", "*": {"word": words, "encoder": listener}}
    assert replace_listener_cfg(model, beside) == replaced
    twice = {"*": {"one": listener, "other": listener}}
    assert replace_listener_cfg(model, twice) == replaced
    twice["*"]["other"] = {**listener, "grad_factor": 1.0}
    with pytest.raises(ValueError, match="differ in pooling or grad_factor"):
        replace_listener_cfg(model, twice)
