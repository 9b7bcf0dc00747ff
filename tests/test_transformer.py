"""The architecture in spacy-transformers' `transformer`, with its listeners."""

import numpy as np
import pytest
import spacy
from spacy.tokens import Span
from spacy.util import fix_random_seed

from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.layers.tok2vec import find_tok2vec

from .pipelines import (
    LISTENER,
    STOCK,
    draw_scores,
    loaded_encoder,
    make_stock_examples,
    ner_config,
    nlp_of,
    shared_config,
    shared_nlp,
    stock_model,
)
from .util import (
    entities,
    make_examples,
    make_text,
    make_tok2vec,
    require,
    some_entities,
    tok2vec_config,
)

require("spacy_transformers")

INLINE = "spacy-modernbert.Tok2VecModernBert.v1"
TEXTS = [make_text(seed, 1 + 3 * seed) for seed in range(6)] + ["", "  "]


def inline_nlp(checkpoint, factory, **changes):
    tok2vec = tok2vec_config(checkpoint, window=64, overlap=16, **changes)
    return nlp_of(ner=ner_config(tok2vec, factory))


def train(nlp, steps, at_once=True):
    """Train as `nlp.update` does, or in the way of `spacy train`, which finishes the
    update of all components together.

    RETURNS (List[float]): The loss of `ner` in each step.
    """
    fix_random_seed(1)
    examples = make_examples(nlp, 6, n_sentences=9)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.003
    losses = []
    for step in range(steps):
        found = {}
        batch = examples[:3] if step % 2 else examples[3:]
        nlp.update(batch, sgd=optimizer if at_once else False, losses=found)
        if not at_once:
            for _, pipe in nlp.pipeline:
                pipe.finish_update(optimizer)
        losses.append(float(found["ner"]))
    return losses


def weights(nlp, name):
    return dict(loaded_encoder(nlp, name).tensors())


@pytest.fixture(scope="module")
def nlp(checkpoint):
    """Trained. Not to be changed."""
    nlp = shared_nlp(checkpoint)
    assert train(nlp, 20)[-1] > 0
    assert sum(map(len, entities(nlp.pipe(TEXTS)))) > 0
    return nlp


# A component is told nothing of who finishes an update, so either way once will do.
@pytest.mark.parametrize("factory, at_once", [("modernbert_ner", False), ("ner", True)])
def test_loss_curve_of_shared_and_inline(checkpoint, factory, at_once):
    inline, shared = inline_nlp(checkpoint, factory), shared_nlp(checkpoint)
    wanted, found = train(inline, 20, at_once), train(shared, 20, at_once)
    assert wanted[-1] < 0.5 * wanted[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert entities(shared.pipe(TEXTS)) == some_entities(inline.pipe(TEXTS))


def test_lower_layers_frozen_and_slow(checkpoint):
    """In a shared encoder as in one of its own."""
    start = dict(open_tensors(checkpoint, load_config(checkpoint)))
    settings = {"frozen_layers": 1, "layer_lr_decay": 0.25}
    shared, plain = shared_nlp(checkpoint, **settings), shared_nlp(checkpoint)
    inline = inline_nlp(checkpoint, "ner", **settings)
    found, wanted = train(shared, 3), train(inline, 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    train(plain, 3)

    def moved(nlp, name):
        tensors = weights(nlp, name)
        return {key: np.abs(tensors[key] - start[key]).mean() for key in start}

    slow, alone = moved(shared, "transformer"), moved(inline, "ner")
    fast = moved(plain, "transformer")
    for name in start:
        is_frozen = name.startswith(("embeddings.", "layers.0."))
        assert (slow[name] == 0) == is_frozen and fast[name] > 0, name
        assert slow[name] == pytest.approx(alone[name], rel=0.05)
        if name.startswith("layers.1."):
            assert slow[name] < 0.2 * fast[name], name


def test_vectors_are_removed_by_doc_cleaner(nlp):
    """As the README has it, for whoever keeps Docs."""
    wanted = some_entities(nlp.pipe(TEXTS))
    cleaned = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    cleaned.add_pipe("doc_cleaner", config={"attrs": {"_.trf_data": None}})
    docs = list(cleaned.pipe(TEXTS))
    assert entities(docs) == wanted
    assert all(doc._.trf_data is None for doc in docs)


def test_round_trips(nlp, tmp_path):
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp.to_disk(tmp_path / "nlp")
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted
    other = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert entities(other.pipe(TEXTS)) == wanted
    assert entities(nlp.pipe(TEXTS, n_process=2, batch_size=2)) == wanted


def test_replaced_listeners(nlp, tmp_path):
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    block = nlp.config["components"]["ner"]["model"]["tok2vec"]
    assert block["@architectures"] == INLINE
    assert block["pooling"] == LISTENER["pooling"] and block["grad_factor"] == 1.0
    nlp.remove_pipe("transformer")
    assert entities(nlp.pipe(TEXTS)) == wanted
    # What is saved is a plain inline model.
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    assert entities(loaded.pipe(TEXTS)) == wanted
    # And both learn on alike.
    examples = make_examples(nlp, 4, n_sentences=6)
    curves = []
    for each in (nlp, loaded):
        fix_random_seed(2)
        optimizer = each.create_optimizer()
        losses = []
        for _ in range(5):
            found: dict = {}
            each.update(examples, sgd=optimizer, losses=found)
            losses.append(float(found["ner"]))
        curves.append(losses)
    np.testing.assert_allclose(*curves, rtol=1e-4)


def test_a_replaced_listener_has_the_vectors_of_docs(checkpoint, tmp_path):
    """Also once it was loaded, when its layers have the names of the listener's."""
    transformer = {"factory": "transformer", "model": shared_config(checkpoint)}
    ner = ner_config(LISTENER, "modernbert_ner")
    nlp = nlp_of(transformer=transformer, ner=ner)
    train(nlp, 1)
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path, config={"components.ner.set_doc_vector": True})
    assert find_tok2vec(loaded.get_pipe("ner").model) is not None
    for doc in loaded.pipe(TEXTS[:2]):
        assert doc.has_vector
        np.testing.assert_allclose(loaded(doc.text).vector, doc.vector, atol=1e-5)


def last_token(doc):
    """spaCy does not learn from it in a stretch of several tokens."""
    return Span(doc, len(doc) - 1, len(doc), "PERSON")


@pytest.mark.parametrize("use_upper", [False, True])  # by which spaCy's update learns
@pytest.mark.parametrize("known", [None, last_token])
def test_the_last_listener_has_nothing_to_learn(
    checkpoint, use_upper, known, monkeypatch
):
    """What the others learned reaches the encoder nevertheless."""
    monkeypatch.setattr("random.uniform", lambda *_: 2)  # tokens of a stretch
    tagger = {
        "factory": "tagger",
        "model": {
            "@architectures": "spacy.Tagger.v2",
            "nO": None,
            "tok2vec": LISTENER,
        },
    }
    ner = ner_config(LISTENER, "modernbert_ner")
    ner["model"] = {**ner["model"], "use_upper": use_upper}
    ner["update_with_oracle_cut_size"] = 4
    nlp = nlp_of(
        transformer={"factory": "transformer", "model": shared_config(checkpoint)},
        tagger=tagger,
        ner=ner,
    )
    examples = [each for each in make_examples(nlp, 8) if len(each.x) % 2 == 0]
    for example in examples:
        for token in example.reference:
            token.tag_ = "LONG" if len(token) > 4 else "SHORT"
    optimizer = nlp.initialize(lambda: examples)
    for example in examples:
        ents = [known(example.reference)] if known else []
        example.reference.set_ents(ents, default="missing")
    before = {name: array.copy() for name, array in weights(nlp, "transformer").items()}
    # The first step only reaches the tagger, whose weights are zeros before.
    for _ in range(2):
        nlp.update(examples, sgd=optimizer)
    for name, array in weights(nlp, "transformer").items():
        assert (array != before[name]).any(), name
    # spacy-transformers' listeners let go of what the encoder keeps of its pass.
    for name in ("tagger", "ner"):
        for node in nlp.get_pipe(name).model.walk():
            assert getattr(node, "_backprop", None) is None
    # Where the encoder is not updated, nothing is passed on.
    nlp.update(make_examples(nlp, 1), sgd=optimizer)
    nlp.update(examples, sgd=optimizer, exclude=["transformer", "tagger"])


def test_replaced_listener_that_does_not_train_the_encoder(checkpoint):
    nlp = shared_nlp(checkpoint, {**LISTENER, "grad_factor": 0.0})
    train(nlp, 1)
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    assert nlp.config["components"]["ner"]["model"]["tok2vec"]["grad_factor"] == 0.0


def test_replaced_listener_keeps_the_layers_frozen(checkpoint):
    nlp = shared_nlp(checkpoint, frozen_layers=2, layer_lr_decay=0.5)
    train(nlp, 2)
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    block = nlp.config["components"]["ner"]["model"]["tok2vec"]
    assert block["frozen_layers"] == 2 and block["layer_lr_decay"] == 0.5
    before = {name: array.copy() for name, array in weights(nlp, "ner").items()}
    nlp.update(make_examples(nlp, 2), sgd=nlp.create_optimizer())
    for name, array in weights(nlp, "ner").items():
        frozen = name.startswith(("embeddings.", "layers.0.", "layers.1."))
        assert (array == before[name]).all() == frozen, name


def test_sourced_with_replaced_listeners(nlp, tmp_path):
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp.to_disk(tmp_path / "source")
    config = spacy.blank("en").config.copy()
    config["nlp"]["pipeline"] = ["ner"]
    config["components"]["ner"] = {
        "source": str(tmp_path / "source"),
        "replace_listeners": ["model.tok2vec"],
    }
    sourced = spacy.blank("en").from_config(config)
    assert entities(sourced.pipe(TEXTS)) == wanted
    both = spacy.blank("en")
    for name in ("transformer", "ner"):
        both.add_pipe(name, source=spacy.load(tmp_path / "source"))
    assert both.pipe_names == ["transformer", "ner"]
    assert entities(both.pipe(TEXTS)) == wanted


def test_frozen_and_annotating(nlp, checkpoint):
    """A frozen transformer annotates, its listeners learn from what it writes."""
    nlp = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    before = {name: array.copy() for name, array in weights(nlp, "transformer").items()}
    linear = next(node for node in nlp.get_pipe("ner").model.walk() if "W" in (
        node.param_names))  # fmt: skip
    weights_of_ner = linear.get_param("W").copy()
    optimizer = nlp.resume_training()
    examples = make_examples(nlp, 3, n_sentences=8)
    for _ in range(3):
        nlp.update(
            examples, sgd=optimizer, exclude=["transformer"], annotates=["transformer"]
        )
    for name, array in weights(nlp, "transformer").items():
        np.testing.assert_array_equal(array, before[name])
    assert (linear.get_param("W") != weights_of_ner).any()


def test_one_encoder_for_many(checkpoint):
    blocks = {
        "transformer": {"factory": "transformer", "model": shared_config(checkpoint)},
        "ner": ner_config(LISTENER),
        "tagger": {
            "factory": "tagger",
            "model": {"@architectures": "spacy.Tagger.v2", "tok2vec": LISTENER},
        },
    }
    nlp = nlp_of(**blocks)
    examples = make_examples(nlp, 4)
    for example in examples:
        for token in example.reference:
            token.tag_ = "X" if token.is_title else "Y"
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.003
    first: dict = {}
    nlp.update(examples, sgd=optimizer, losses=first)
    for _ in range(15):
        last: dict = {}
        nlp.update(examples, sgd=optimizer, losses=last)
    assert last["ner"] < first["ner"] and last["tagger"] < first["tagger"]
    doc = nlp(TEXTS[2])
    assert {token.tag_ for token in doc} == {"X", "Y"}


@pytest.mark.parametrize("factory", STOCK)
def test_stock_components_listen(checkpoint, factory):
    """And teach the encoder."""
    transformer = {"factory": "transformer", "model": shared_config(checkpoint)}
    listening = {"factory": factory, "model": stock_model(factory, LISTENER)}
    nlp = nlp_of(transformer=transformer, **{factory: listening})
    examples = make_stock_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    tensors = weights(nlp, "transformer")
    before = {name: array.copy() for name, array in tensors.items()}
    losses: dict = {}
    # Layers of scores are zeros at first, and let no gradient through.
    for _ in range(2):
        nlp.update(examples[:3], sgd=optimizer, losses=losses)
    assert losses[factory] > 0
    for name, array in weights(nlp, "transformer").items():
        assert (array != before[name]).any(), name
    docs = list(nlp.pipe(TEXTS))
    again = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for one, other in zip(docs, again.pipe(TEXTS), strict=True):
        assert one.to_json() == other.to_json()


def test_a_listener_of_ours_on_disk(checkpoint, tmp_path):
    """`modernbert_ner` listens like any other. Its encoder is a folder once the
    listener is replaced.
    """
    transformer = {"factory": "transformer", "model": shared_config(checkpoint)}
    ner = ner_config(LISTENER, "modernbert_ner")
    nlp = nlp_of(transformer=transformer, ner=ner)
    train(nlp, 1)
    draw_scores(nlp.get_pipe("ner"))
    nlp.to_disk(tmp_path / "listening")
    assert not (tmp_path / "listening" / "ner" / "encoder").exists()
    wanted = some_entities(nlp.pipe(TEXTS))
    assert entities(spacy.load(tmp_path / "listening").pipe(TEXTS)) == wanted
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    nlp.remove_pipe("transformer")
    nlp.to_disk(tmp_path / "alone")
    assert (tmp_path / "alone" / "ner" / "encoder").is_dir()
    assert entities(spacy.load(tmp_path / "alone").pipe(TEXTS)) == wanted


def test_initializing_encodes_nothing(checkpoint, monkeypatch):
    from spacy_modernbert.encoder.torch.encoder import TorchEncoder

    def refuse(self, batch):
        raise AssertionError("a pass")

    monkeypatch.setattr(TorchEncoder, "encode", refuse)
    nlp = shared_nlp(checkpoint)
    nlp.initialize(lambda: make_examples(nlp, 3))
    assert nlp.get_pipe("transformer").model.get_dim("nO") == 32


def test_span_getters_of_spacy_transformers(checkpoint):
    """Inline, too: what they cut too long is cut further. A window that holds the Doc
    gives the vectors that ours does.
    """
    docs = [spacy.blank("en")(text) for text in TEXTS]
    wanted = make_tok2vec(checkpoint).predict(docs)
    assert max(map(len, docs)) > 40
    for block in (
        {"@span_getters": "spacy-transformers.doc_spans.v1"},
        {
            "@span_getters": "spacy-transformers.strided_spans.v1",
            "window": 40,
            "stride": 30,
        },
    ):
        nlp = nlp_of(
            ner=ner_config(tok2vec_config(checkpoint, get_spans=block)),
        )
        assert train(nlp, 1)[0] > 0
        assert len(list(nlp.pipe(TEXTS))) == len(TEXTS)
        found = make_tok2vec(checkpoint, get_spans=block).predict(docs)
        for doc, vectors, others in zip(docs, found, wanted, strict=True):
            is_whole = len(doc) <= block.get("window", len(doc))
            assert np.allclose(vectors, others, atol=1e-5) == is_whole


def test_our_span_getter_in_a_stock_model(checkpoint):
    stock = {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": str(checkpoint),
        "tokenizer_config": {"use_fast": True},
        "transformer_config": {},
        "mixed_precision": False,
        "grad_scaler_config": {},
        "get_spans": tok2vec_config(checkpoint)["get_spans"],
    }
    nlp = nlp_of(
        transformer={"factory": "transformer", "model": stock},
        ner=ner_config(LISTENER),
    )
    nlp.initialize(lambda: make_examples(nlp, 1))
    doc = nlp(TEXTS[1])
    (found,) = doc._.trf_data.model_output.last_hidden_state  # of one window
    encode = make_tok2vec(checkpoint, precision="float32").layers[0]
    np.testing.assert_allclose(found, encode.predict([doc]).vectors, atol=1e-4)
    assert train(nlp, 1)[0] > 0
    assert len(list(nlp.pipe(TEXTS))) == len(TEXTS)
