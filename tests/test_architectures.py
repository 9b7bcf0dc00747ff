import importlib.util

import numpy as np
import pytest
import spacy
from spacy.util import registry
from thinc.api import ConfigValidationError, reduce_mean

from spacy_modernbert.architectures import ModernBertModel_v1, Tok2VecModernBert_v1
from spacy_modernbert.encoder.backend import BACKEND_VARIABLE
from spacy_modernbert.layers.encode import find_layers, get_shim
from spacy_modernbert.span_getters import LongContextSpans

from .scripts import run_script
from .util import (
    count_passes,
    gradients_of,
    make_examples,
    make_text,
    make_tok2vec,
    require,
    tok2vec_config,
)

INLINE = "spacy-modernbert.Tok2VecModernBert.v1"
SHARED = "spacy-modernbert.ModernBertModel.v1"


@pytest.fixture(params=[INLINE, SHARED])
def make(request):
    if request.param == SHARED:
        require("spacy_transformers")

    def make(**changes):
        config = tok2vec_config("nowhere", **{"@architectures": request.param})
        if request.param == SHARED:
            del config["pooling"]
        return registry.resolve({"model": {**config, **changes}})["model"]

    return make


def test_making_a_model_reads_nothing(make):
    (layer,) = find_layers(make(name="no/such-model"))
    assert not get_shim(layer).has_encoder


def test_what_the_config_says_arrives(make):
    settings = {
        "name": "some/model",
        "revision": "abc",
        "backend": "cpu",
        "precision": "float32",
        "quantization": {"bits": 8},
        "max_batch_wordpieces": 999,
        "gradient_checkpointing": True,
        "frozen_layers": 2,
        "layer_lr_decay": 0.75,
    }
    (layer,) = find_layers(make(**settings))
    assert vars(get_shim(layer).settings) == {**settings, "heed_variable": True}


WRONG = [
    {"name": ""},
    {"name": " "},
    {"name": None},
    {"revision": ""},
    {"revision": 3},
    {"backend": "gpu"},
    {"backend": "tensorflow"},
    {"precision": "float64"},
    {"precision": "int8"},
    {"quantization": {"bits": 3}},
    {"max_batch_wordpieces": 0},
    {"max_batch_wordpieces": -5},
    {"max_batch_wordpieces": True},
    {"max_batch_wordpieces": 512.0},
    {"gradient_checkpointing": "always"},
    {"gradient_checkpointing": 1},
    {"frozen_layers": -1},
    {"frozen_layers": True},
    {"frozen_layers": 1.5},
    {"layer_lr_decay": 0},
    {"layer_lr_decay": -0.5},
    {"layer_lr_decay": 1.01},
    {"layer_lr_decay": True},
    {"layer_lr_decay": float("nan")},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
@pytest.mark.parametrize("make", [Tok2VecModernBert_v1, ModernBertModel_v1])
def test_wrong_values(make, change):
    ((key, value),) = change.items()
    settings = {"name": "nowhere", "get_spans": LongContextSpans(512, 32), **change}
    if make is ModernBertModel_v1:
        require("spacy_transformers")
    else:
        settings["pooling"] = reduce_mean()
    with pytest.raises(ValueError, match=key) as error:
        make(**settings)
    assert repr(value) in str(error.value)
    assert any(word in str(error.value) for word in ("must be", "Set ", "Use "))


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_wrong_values_in_a_config(make, change):
    """Where the type is wrong, spaCy itself says so, and of which key. It prints the
    whole config then, in which any value would be found.
    """
    ((key, value),) = change.items()
    with pytest.raises(ValueError) as error:
        make(**change)
    if isinstance(error.value, ConfigValidationError):
        assert {tuple(each["loc"]) for each in error.value.errors} == {("model", key)}
    else:
        assert key in str(error.value) and repr(value) in str(error.value)


@pytest.mark.parametrize("value", [-1.0, True, "1", float("nan"), float("inf")])
def test_wrong_grad_factor(value):
    spans, pooling = LongContextSpans(512, 32), reduce_mean()
    with pytest.raises(ValueError, match="grad_factor must be a number"):
        Tok2VecModernBert_v1("nowhere", spans, pooling, grad_factor=value)


def test_whole_numbers_are_numbers():
    config = tok2vec_config("nowhere", grad_factor=1)
    registry.resolve({"model": config})


def test_grad_factor(checkpoint):
    nlp = spacy.blank("en")
    docs = [nlp(make_text(0))]
    found = []
    for grad_factor in (1.0, 0.5, 0.0):
        model = make_tok2vec(checkpoint, grad_factor=grad_factor)
        outputs, backprop = model.begin_update(docs)
        backprop([output - 1 for output in outputs])
        gradients = gradients_of(get_shim(model.layers[0]).loaded.encoder)
        found.append(gradients["final_norm.weight"])
    assert found[0] == pytest.approx(2 * found[1], rel=1e-4)
    assert found[0].any() and not found[2].any()


def test_environment_has_the_last_word(checkpoint, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, "abacus")
    with pytest.raises(ValueError, match="abacus"):
        make_tok2vec(checkpoint)
    monkeypatch.setenv(BACKEND_VARIABLE, "cpu")
    model = make_tok2vec(checkpoint, backend="cuda")
    assert get_shim(model.layers[0]).loaded.encoder.device == "cpu"


@pytest.mark.parametrize("factory", ["ner", "tagger"])
def test_stock_components_encode_their_sample_once(checkpoint, factory):
    """Stock spacy-transformers: four times, and ten whole Docs in one pass."""
    nlp = spacy.blank("en")
    model = {"tok2vec": tok2vec_config(checkpoint, window=64, max_batch_wordpieces=64)}
    pipe = nlp.add_pipe(factory, config={"model": model})
    (layer,) = find_layers(pipe.model)
    layer.initialize()
    passes = count_passes(pipe.model)
    examples = make_examples(nlp, 12)
    for example in examples:
        for token in example.reference:
            token.tag_ = "N"
    nlp.initialize(lambda: examples)
    wordpieces = get_shim(layer).loaded.tokenizer(
        [example.predicted.text for example in examples[:10]]
    )
    assert max(passes.encoded) <= 64
    assert sum(passes.encoded) < 1.5 * sum(len(pieces) for pieces in wordpieces)


def test_a_doc_keeps_no_vectors_of_others(checkpoint):
    """As with spaCy's `tok2vec`, which sets them as `doc.tensor`."""
    nlp = spacy.blank("en")
    model = make_tok2vec(checkpoint)
    nlp.add_pipe("tok2vec", config={"model": tok2vec_config(checkpoint)})
    nlp.initialize()
    docs = list(nlp.pipe([make_text(0), make_text(1)]))
    for doc, vectors in zip(docs, model.predict(docs), strict=True):
        assert doc.tensor.base is None
        np.testing.assert_allclose(doc.tensor, vectors, atol=1e-5)


# -- Without what is not needed --------------------------------------------------


def test_without_spacy_transformers(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "spacy_transformers" else find_spec(name),
    )
    config = tok2vec_config("nowhere", **{"@architectures": SHARED})
    del config["pooling"]
    with pytest.raises(ImportError, match=r'pip install "spacy-modernbert\[transf'):
        registry.resolve({"model": config})


def test_resolved_before_there_is_a_pipeline():
    config = tok2vec_config("nowhere")
    script = f"""
from spacy import registry
assert not hasattr(registry, "span_getters")
assert registry.resolve({{"model": {config!r}}})["model"].name
"""
    run_script(script)
