"""Every backend in spaCy's hands: the same pipeline, whatever it was trained on."""

import copy

import numpy as np
import pytest
import spacy
from spacy.util import fix_random_seed

from spacy_modernbert.encoder.availability import BACKENDS, PREDICTING, look_for

from .pipelines import (
    layer_of,
    load_exact,
    loaded_encoder,
    make_nlp,
    start,
    train,
)
from .scripts import run_script
from .util import (
    entities,
    make_examples,
    make_text,
    skip_unless_here,
    some_entities,
)

NAMES = BACKENDS[1:]
TEXTS = [make_text(seed, 1 + seed % 5) for seed in range(300, 312)]

# One with no token, one of white space, one of three windows.
ODD = [TEXTS[0], "", "\n ", make_text(7, 12), TEXTS[1]]


def encode(nlp, texts):
    return layer_of(nlp).predict([nlp.make_doc(text) for text in texts])


# -- Each backend ---------------------------------------------------------------


def test_trained_elsewhere(trained, backend):
    """What torch trained on the CPU gives the same entities, in the same order."""
    if backend == "cpu":
        pytest.skip("it is what the others are compared with")
    found = entities(load_exact(trained, backend).pipe(TEXTS))
    assert found == entities(load_exact(trained, "cpu").pipe(TEXTS))
    assert sum(map(len, found)) > len(TEXTS)


def test_order_and_batches(trained, backend):
    nlp = load_exact(trained, backend)
    docs = list(nlp.pipe(TEXTS, batch_size=3))
    assert [doc.text for doc in docs] == TEXTS
    assert some_entities(docs) == entities([nlp(text) for text in TEXTS])


def test_empty_docs_and_a_doc_of_three_windows(trained, backend):
    spans = {"window": 64, "overlap": 16}
    nlp = load_exact(trained, backend, get_spans=spans)
    encoded = encode(nlp, ODD)
    n_windows = [len(windows) for windows in encoded.plan.windows]
    assert n_windows[1] == 0 or not encoded.plan.windows[1][0]
    assert n_windows[3] >= 3
    wanted = encode(load_exact(trained, "cpu", get_spans=spans), ODD)
    np.testing.assert_allclose(encoded.vectors, wanted.vectors, atol=1e-4)
    docs = list(nlp.pipe(ODD))
    assert [doc.text for doc in docs] == ODD
    assert not docs[1].ents and docs[3].ents
    assert not nlp("").ents
    assert not list(nlp.pipe([]))


def test_added_and_trained_or_refused(checkpoint, backend, tmp_path):
    """Training makes a pipeline that every backend here loads, or is refused before
    anything is done.
    """
    fix_random_seed(0)
    nlp = make_nlp(checkpoint, backend=backend, precision="float32")
    examples = make_examples(nlp, 4)
    optimizer = start(nlp, examples)
    if backend in PREDICTING:
        with pytest.raises(ValueError, match=f"'{backend}' can only predict"):
            nlp.update(examples, sgd=optimizer)
        return
    losses = train(nlp, examples, optimizer, steps=20)
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    nlp.to_disk(tmp_path / "nlp")
    wanted = some_entities(nlp.pipe(TEXTS))
    for other in NAMES:
        if not look_for(other).missing:
            again = load_exact(tmp_path / "nlp", other)
            assert entities(again.pipe(TEXTS)) == wanted, other


def test_rehearsing(trained, backend):
    """Thinc steps arrays on the host, which are the weights on the CPU only. Elsewhere
    the encoder stays as it is, and all else is rehearsed.
    """
    if backend in PREDICTING:
        pytest.skip("predicts only")
    nlp = load_exact(trained, backend)
    optimizer = nlp.resume_training()
    examples = make_examples(nlp, 4)
    # What it has learned since is what rehearsing takes back.
    nlp.update(examples, sgd=optimizer)
    # The layer between the encoder and the recognizer.
    linear = nlp.get_pipe("modernbert_ner").model.get_ref("tok2vec").layers[-1]
    before = copy.deepcopy(dict(loaded_encoder(nlp).tensors()))
    before_linear = linear.get_param("W").copy()
    nlp.rehearse(examples, sgd=optimizer)
    changed = {
        name: bool((array != before[name]).any())
        for name, array in loaded_encoder(nlp).tensors().items()
    }
    assert set(changed.values()) == {backend == "cpu"}, changed
    assert (linear.get_param("W") != before_linear).any()


def test_saved_again(trained, backend, tmp_path):
    """What is saved is what was loaded, to the last bit."""
    nlp = load_exact(trained, backend)
    nlp.to_disk(tmp_path / "nlp")
    tensors = loaded_encoder(load_exact(trained, "cpu")).tensors()
    saved = loaded_encoder(load_exact(tmp_path / "nlp", "cpu")).tensors()
    assert set(saved) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(saved[name], tensor, err_msg=name)


def test_bytes(trained, backend):
    nlp = load_exact(trained, backend)
    other = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert loaded_encoder(other).device == loaded_encoder(nlp).device
    assert entities(other.pipe(TEXTS)) == some_entities(nlp.pipe(TEXTS))


# In a process of its own, since a fork that hangs would hang the tests.
PROCESSES = """
import os, sys
import spacy
from tests.pipelines import loaded_encoder
from tests.util import entities, some_entities

folder, backends, *texts = sys.argv[1:]
for backend in backends.split():
    print(backend, file=sys.stderr)
    os.environ["SPACY_MODERNBERT_BACKEND"] = backend
    nlp = spacy.load(folder)
    assert loaded_encoder(nlp).device.startswith(backend)
    wanted = some_entities(nlp.pipe(texts))
    docs = list(nlp.pipe(texts, n_process=2, batch_size=2))
    assert entities(docs) == wanted and [doc.text for doc in docs] == texts
"""


def test_processes_after_use(trained):
    """On the CPU, test_pipeline.py shows it, and CUDA cannot be used in a fork."""
    backends = [
        name
        for name in NAMES
        if name not in ("cpu", "cuda") and not look_for(name).missing
    ]
    if not backends:
        pytest.skip("there is torch on the CPU only")
    run_script(PROCESSES, trained, " ".join(backends), *TEXTS)


# -- The ways to choose one -----------------------------------------------------


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_chosen_when_loading(trained, backend, monkeypatch):
    skip_unless_here(backend)
    nested = load_exact(trained, backend)
    key = "components.modernbert_ner.model.tok2vec.backend"
    dotted = spacy.load(trained, config={key: backend})
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", backend)
    by_variable = spacy.load(trained)
    for nlp in (nested, dotted, by_variable):
        assert loaded_encoder(nlp).device.startswith(backend)
    # The variable is not written down with the pipeline, the others are.
    settings = [
        nlp.config["components"]["modernbert_ner"]["model"]["tok2vec"]["backend"]
        for nlp in (nested, dotted, by_variable)
    ]
    assert settings == [backend, backend, "cpu"]


@pytest.mark.parametrize("backend", ["mlx", "openvino", "onnx"])
def test_what_is_not_there(trained, backend, only_torch_installed, monkeypatch):
    """The message has the command that installs it."""
    extra = rf"spacy-modernbert\[{backend}\]"
    wanted = f"'{backend}' cannot run here.*pip install \"{extra}\""
    with pytest.raises(ValueError, match=wanted):
        load_exact(trained, backend)
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", backend)
    with pytest.raises(ValueError, match=wanted):
        spacy.load(trained)


# -- What is imported -----------------------------------------------------------

# On the way: an inline encoder needs no transformers. Span getters come with entry
# points; nothing else is imported for them.
IMPORTS = """
import sys

def check(*modules):
    found = [name for name in modules if name in sys.modules]
    assert not found, found

unneeded = ["transformers", "spacy_transformers"]
sys.modules.update(dict.fromkeys(unneeded))
import spacy_modernbert.architectures
from tests.util import make_examples, make_tok2vec
from spacy.tokens import Doc
from spacy.vocab import Vocab

trained, checkpoint = sys.argv[1:]
model = make_tok2vec(checkpoint)
assert model.predict([Doc(Vocab(), words=["Oslo"])])[0].shape == (1, 32)
for name in unneeded:
    del sys.modules[name]

import spacy
from tests.pipelines import make_nlp

nlp = make_nlp(checkpoint)
check("numba")
nlp.initialize(lambda: make_examples(nlp, 1))
for each in (nlp, spacy.load(trained)):
    each("Anna Berg went to Oslo.")
ours = "spacy_modernbert.encoder."
check("mlx", "mlx.core", "onnx", "onnxruntime", "openvino")
check(*(f"{ours}{name}.encoder" for name in ("mlx", "onnx", "openvino")))
assert ours + "torch.encoder" in sys.modules
"""


def test_a_torch_pipeline_imports_no_other_library(trained, checkpoint):
    """And Numba, which takes seconds, no sooner than it has something to decode."""
    run_script(IMPORTS, trained, checkpoint)
