"""`doc.vector` by `set_doc_vector = true`."""

import json
import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
import spacy
from spacy.ml.callbacks import models_with_nvtx_range
from spacy.tokens import Doc, DocBin
from spacy.vectors import Vectors
from spacy.vocab import Vocab

from spacy_modernbert.embeddings import load_embedder
from spacy_modernbert.encoder.sentences import resolve_pooling
from spacy_modernbert.layers import doc_vectors
from spacy_modernbert.layers.doc_vectors import EXTENSION, use_doc_vector
from spacy_modernbert.layers.encode import get_shim

from ..pipelines import layer_of, ner_config, nlp_of
from ..scripts import run_script
from ..util import (
    count_passes,
    entities,
    make_examples,
    make_text,
    pickled,
    put_on_small_device,
    some_entities,
)

TEXTS = [make_text(0, 4), "", make_text(1, 2), "  \n", make_text(2, 9)]
SETTING = "components.modernbert_ner.set_doc_vector"


@pytest.fixture
def nlp(trained):
    return spacy.load(trained, config={SETTING: True})


@pytest.fixture(scope="module")
def wanted(trained):
    return load_embedder(str(trained), backend="cpu").embed(TEXTS)


def assert_vectors(docs, wanted):
    for doc, vector in zip(docs, wanted, strict=True):
        np.testing.assert_allclose(doc.vector, vector, atol=1e-4)


def test_off_by_default(trained):
    nlp = spacy.load(trained)
    assert nlp.config["components"]["modernbert_ner"]["set_doc_vector"] is False
    doc = nlp(TEXTS[0])
    assert not doc.user_hooks and not doc.user_data


@pytest.mark.usefixtures("parser")
def test_vectors(nlp, trained, wanted):
    """By either parser: each Doc has its own, and the entities are the same."""
    docs = list(nlp.pipe(TEXTS))
    assert_vectors(docs, wanted)
    assert_vectors([nlp(text) for text in TEXTS], wanted)
    assert entities(docs) == some_entities(spacy.load(trained).pipe(TEXTS))
    assert [doc.has_vector for doc in docs] == [True, False, True, True, True]
    assert not docs[1].vector.any() and docs[1].vector.shape == (32,)


def test_a_doc_keeps_no_vectors_of_others(nlp):
    for doc in nlp.pipe(TEXTS):
        assert doc._.modernbert_vector.base is None


def test_a_vector_that_was_taken_away(nlp):
    """Then a Doc is as spaCy makes it."""
    for ask in ("has_vector", "vector_norm", "vector"):
        doc = nlp(TEXTS[0])
        doc._.modernbert_vector = None
        np.testing.assert_array_equal(getattr(doc, ask), getattr(doc.copy(), ask))
        assert not doc.user_hooks
    with pytest.raises(ValueError, match="has no vector to use"):
        use_doc_vector(doc)


def test_parts(nlp):
    """Docs of parts have the hooks of the whole, in the same dict."""
    vectors = Vectors(shape=(1, 3))
    nlp.vocab.vectors = vectors
    nlp.vocab.set_vector("Oslo", np.ones(3, "f"))
    whole = nlp.make_doc("Anna Berg went to Oslo. Tomas Lind never saw Bergen.")
    plain = whole.vector.copy()
    part = nlp(whole[:6].as_doc())
    assert part.vector.shape == (32,) and not whole.user_hooks
    np.testing.assert_array_equal(whole.vector, plain)
    # And the other way round.
    whole = nlp(whole)
    vector = whole.vector.copy()
    part, other = whole[:5].as_doc(), whole[6:].as_doc()
    assert part.has_vector and part.vector.shape == (3,) and part.vector_norm > 0
    assert part.similarity(part) == pytest.approx(1)
    for one, two in ((whole, part), (whole[:5].as_doc(), whole)):
        with pytest.raises(ValueError, match="cannot be compared"):
            one.similarity(two)
    assert not other.has_vector and not other.vector.any()
    assert whole.vector.shape == (32,) and (whole.vector == vector).all()
    assert nlp(part).vector.shape == (32,)


def test_no_second_pass(nlp):
    passes = count_passes(nlp.get_pipe("modernbert_ner").model)
    list(nlp.pipe(TEXTS))
    assert len(passes.encoded) == 1


def test_hidden_states_stay_on_the_device(nlp, wanted, monkeypatch):
    """But for a pooling layer that is Thinc's."""
    encoder = get_shim(layer_of(nlp)).loaded.encoder
    encode, encoded = encoder.encode, []
    monkeypatch.setattr(encoder, "encode", lambda batch: encoded.append(encode(batch)))
    assert_vectors(nlp.pipe(TEXTS), wanted)
    assert not encoded
    monkeypatch.setattr(encoder, "encode", encode)
    monkeypatch.setattr(encoder, "encode_tokens", None)
    monkeypatch.setattr(doc_vectors, "pools_means", lambda pool: False)
    assert_vectors(nlp.pipe(TEXTS), wanted)


def test_only_empty_docs(nlp):
    for doc in nlp.pipe(["", ""]):
        assert doc.vector.shape == (32,) and not doc.vector.any()


def test_predicting_changes_no_doc(nlp):
    doc = nlp.make_doc(TEXTS[0])
    ner = nlp.get_pipe("modernbert_ner")
    predicted = ner.predict([doc])
    assert not doc.user_data and not doc.user_hooks and not doc.ents
    ner.set_annotations([doc], predicted)
    assert doc.has_vector and doc.ents


def test_longer_than_a_window(trained):
    spans = "components.modernbert_ner.model.tok2vec.get_spans"
    config = {SETTING: True, f"{spans}.window": 64, f"{spans}.overlap": 16}
    nlp = spacy.load(trained, config=config)
    doc = nlp(make_text(3, 20))
    layer = layer_of(nlp)
    (windows,) = layer.predict([doc]).plan.windows
    assert len(windows) > 3
    # By hand: the [CLS] of the windows, by the wordpieces for which each is used.
    loaded = get_shim(layer).loaded
    assert resolve_pooling("auto", loaded.encoder.config) == "cls"
    encoded = layer.predict([doc])
    firsts = np.cumsum([0, *encoded.plan.window_lengths])[:-1]
    n_pieces = windows[-1].piece_end
    middle = [(a.piece_end + b.piece_start) / 2 for a, b in pairwise(windows)]
    shares = np.diff(np.ceil([0, *middle, n_pieces])) / n_pieces
    np.testing.assert_allclose(doc.vector, shares @ encoded.vectors[firsts], atol=1e-4)


def test_similarity(nlp):
    """With no word of warning about missing word vectors."""
    docs = list(nlp.pipe(TEXTS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert docs[0].similarity(docs[0]) == pytest.approx(1)
        found = docs[0].similarity(docs[2])
        assert docs[0].similarity(docs[1]) == docs[1].similarity(docs[0]) == 0.0
    a, b = docs[0].vector, docs[2].vector
    assert found == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert docs[0].vector_norm == pytest.approx(np.linalg.norm(a))


def test_similarity_to_what_has_word_vectors(nlp):
    doc = nlp(TEXTS[0])
    for part in (doc[0], doc[:2]):
        with pytest.warns(UserWarning, match="W008"):
            assert doc.similarity(part) == 0.0
    vocab = Vocab(vectors=Vectors(shape=(1, 3)))
    vocab.set_vector("cat", np.ones(3, "f"))
    with pytest.raises(ValueError, match=f"{len(doc.vector)} wide.* Token is 3 wide"):
        doc.similarity(Doc(vocab, words=["cat"])[0])


def test_copies(nlp, wanted):
    docs = list(nlp.pipe(TEXTS))
    assert_vectors([doc.copy() for doc in docs], wanted)
    assert_vectors(pickled(docs), wanted)


def test_unpickled_where_there_is_no_pipeline(nlp, wanted, tmp_path):
    path = tmp_path / "docs"
    path.write_bytes(pickle.dumps(list(nlp.pipe(TEXTS))))
    script = f"""
import json, pickle
docs = pickle.load(open({str(path)!r}, "rb"))
print(json.dumps([[doc.has_vector, doc.vector.tolist()] for doc in docs]))
"""
    found = json.loads(run_script(script))
    for (has_vector, vector), row in zip(found, wanted, strict=True):
        assert has_vector == bool(row.any())
        np.testing.assert_allclose(vector, row, atol=1e-5)


def test_with_ranges_for_a_profiler(trained):
    """Thinc then puts a function of its own in the place of each layer's."""
    marked = spacy.load(trained, config={SETTING: True})
    models_with_nvtx_range(marked, -1, -1)
    docs = list(marked.pipe(TEXTS))
    wanted = list(spacy.load(trained, config={SETTING: True}).pipe(TEXTS))
    for found, doc in zip(docs, wanted, strict=True):
        np.testing.assert_allclose(found.vector, doc.vector, atol=1e-5)
    assert entities(docs) == some_entities(wanted)


@pytest.mark.filterwarnings("ignore:.W109")
def test_through_bytes(nlp, wanted):
    docs = list(nlp.pipe(TEXTS))
    data = [doc.to_bytes() for doc in docs]
    found = [Doc(nlp.vocab).from_bytes(each) for each in data]
    assert_vectors(map(use_doc_vector, found), wanted)
    saved = DocBin(docs=docs, store_user_data=True).to_bytes()
    found = list(DocBin().from_bytes(saved).get_docs(nlp.vocab))
    assert_vectors(map(use_doc_vector, found), wanted)
    (bare,) = DocBin(docs=docs[:1]).get_docs(nlp.vocab)
    with pytest.raises(ValueError, match="store_user_data"):
        use_doc_vector(bare)


def test_two_processes_of_a_fresh_one(trained):
    """In which no Doc has had a vector yet, nor will have: the workers set them."""
    script = f"""
import spacy
nlp = spacy.load({str(trained)!r}, config={{{SETTING!r}: True}})
docs = list(nlp.pipe({TEXTS!r}, n_process=2, batch_size=2))
print([bool(doc._.modernbert_vector.any()) for doc in docs])
"""
    assert run_script(script).strip() == "[True, False, True, True, True]"


@pytest.mark.filterwarnings("ignore:.W109")
def test_two_processes(nlp, wanted):
    docs = list(nlp.pipe(TEXTS, n_process=2, batch_size=2))
    for doc, vector in zip(docs, wanted, strict=True):
        np.testing.assert_allclose(doc._.get(EXTENSION), vector, atol=1e-4)
    assert_vectors(map(use_doc_vector, docs), wanted)


def test_saved_and_loaded(nlp, wanted, tmp_path):
    nlp.to_disk(tmp_path / "nlp")
    assert_vectors(spacy.load(tmp_path / "nlp").pipe(TEXTS), wanted)
    off = spacy.load(tmp_path / "nlp", config={SETTING: False})
    assert not off(TEXTS[0]).user_data


def test_training_leaves_docs_alone(nlp):
    (example,) = make_examples(nlp, 1)
    ner = nlp.get_pipe("modernbert_ner")
    losses = ner.update([example], sgd=nlp.create_optimizer())
    assert losses["modernbert_ner"] > 0
    assert not example.predicted.user_data and not example.predicted.user_hooks


def test_without_an_encoder():
    listener = {
        "@architectures": "spacy.Tok2VecListener.v1",
        "width": 16,
        "upstream": "*",
    }
    block = ner_config(listener, "modernbert_ner", set_doc_vector=True)
    with pytest.raises(ValueError, match="has 0 encoders of its own"):
        nlp_of(modernbert_ner=block)


def test_on_a_small_device(trained):
    """Whose memory runs out in the middle, where vectors are summed over passes."""
    window = "components.modernbert_ner.model.tok2vec.get_spans.window"
    config = {SETTING: True, window: 64, window.replace("window", "overlap"): 16}
    nlp = spacy.load(trained, config=config)
    wanted = [doc.vector for doc in nlp.pipe(TEXTS)]
    device = put_on_small_device(nlp.get_pipe("modernbert_ner").model, 90)
    with pytest.warns(UserWarning, match="passes hold") as caught:
        assert_vectors(nlp.pipe(TEXTS), wanted)
    assert device.refused and len(caught) == 1
