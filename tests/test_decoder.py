"""The compiled decoder. spaCy's parser is the oracle."""

import sys
from functools import partial

import numpy as np
import pytest
import spacy
from spacy.ml.models.parser import build_tb_parser_model
from spacy.pipeline import EntityRecognizer
from spacy.pipeline._parser_internals.ner import BiluoPushDown
from spacy.tokens import Span
from spacy.training import Example
from thinc.api import Model

from spacy_modernbert import components
from spacy_modernbert.components import ModernBertNER

from .util import entities, make_example, make_text, require, some_entities

require("numba", reason="The decoder is compiled with Numba.")

from spacy_modernbert import decoder, transitions  # noqa: E402

from .recognizers import make_doc, make_pipe, nlp  # noqa: E402
from .scripts import FORKS, needs_forks, run_script  # noqa: E402

TEXTS = [make_text(seed, 3) for seed in range(200, 206)]
ATTRIBUTES = ["ENT_IOB", "ENT_TYPE", "ENT_KB_ID", "ENT_ID"]


def assert_same(pipe, docs, is_fast=True):
    """Docs are annotated as the stock parser annotates them, and by whom they should.

    RETURNS (int): The number of entities.
    """
    copies = [doc.copy() for doc in docs]
    for doc, copy in zip(docs, copies, strict=True):
        copy.tensor = doc.tensor
    found = decoder.predict_entities(pipe, docs)
    assert (found is not None) == is_fast
    oracle = EntityRecognizer.predict(pipe, copies)
    EntityRecognizer.set_annotations(pipe, copies, oracle)
    pipe.set_annotations(docs, pipe.predict(docs))
    for doc, copy in zip(docs, copies, strict=True):
        assert doc.to_array(ATTRIBUTES).tolist() == copy.to_array(ATTRIBUTES).tolist()
    return sum(int((doc.to_array("ENT_IOB") == 3).sum()) for doc in docs)


# -- The same entities ------------------------------------------------------------


@pytest.mark.parametrize("presets", ["none", "spans", "arrays"])
@pytest.mark.parametrize("use_upper", [False, True])
def test_random_settings(use_upper, presets, monkeypatch):
    """1,002 of them in all."""
    found = 0
    for seed in range(167):
        rng = np.random.default_rng(seed)
        n_labels = int(rng.integers(1, 19))
        pipe = make_pipe(
            rng,
            n_labels,
            use_upper,
            hidden_width=int(rng.integers(1, 70)),
            pieces=int(rng.integers(1, 4)),
            n_late=int(rng.integers(0, 3)) if n_labels > 2 else 0,
        )
        lengths = [int(rng.integers(1, 40)), *rng.choice([0, 1, 2, 20], size=2)]
        docs = [make_doc(rng, n, n_labels, presets) for n in lengths]
        monkeypatch.setattr(decoder, "CHUNK", int(rng.choice([1, 3, 16, 1024])))
        found += assert_same(pipe, docs)
    assert found > 500


@pytest.mark.parametrize("use_upper", [False, True])
def test_one_long_doc(use_upper):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, use_upper=use_upper)
    doc = make_doc(rng, 3 * decoder.CHUNK + 5)
    assert assert_same(pipe, [doc]) > 100


def test_vectors_that_are_no_numbers():
    rng = np.random.default_rng(0)
    docs = [make_doc(rng, 10) for _ in range(2)]
    docs[0].tensor[4] = np.nan
    assert_same(make_pipe(rng), docs)


def test_tok2vec_of_another_shape():
    """Not what `TransitionBasedParser.v2` makes, but what it may be replaced with."""
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    inner = pipe.model.layers[0]
    outer = Model("outer", lambda model, docs, is_train: inner(docs, is_train))
    pipe.model._layers[0] = outer
    assert_same(pipe, [make_doc(rng, 10)])


@pytest.mark.parametrize("n_rows", [9, 11])
def test_docs_with_other_vectors(n_rows):
    """As where tokens were merged after they were made: nothing is read beyond them."""
    rng = np.random.default_rng(0)
    doc = make_doc(rng, 10)
    doc.tensor = np.zeros((n_rows, doc.tensor.shape[1]), dtype=np.float32)
    message = f"given {n_rows} vectors for 10 tokens"
    with pytest.raises(ValueError, match=message):
        decoder.predict_entities(make_pipe(rng), [doc])


def test_empty_docs_of_no_width():
    """As spacy-transformers gives them."""
    rng = np.random.default_rng(0)
    docs = [make_doc(rng, n) for n in (0, 10, 0)]
    docs[0].tensor = np.zeros((0, 0), dtype=np.float32)
    assert_same(make_pipe(rng), docs)


def test_incorrect_spans_say_nothing_about_decoding():
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, incorrect_spans_key="wrong")
    doc = make_doc(rng, 10)
    doc.spans["wrong"] = [Span(doc, 0, 2, "LABEL0")]
    assert_same(pipe, [doc])


# -- What is left to the stock parser ---------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"beam_width": 2}, {"extra_state_tokens": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_other_parsers(settings):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, **settings)
    assert_same(pipe, [make_doc(rng, 20), make_doc(rng, 3)], is_fast=False)


@pytest.mark.parametrize(
    ("use_upper", "layer", "name"),
    [
        (False, 1, "W"),
        (False, 1, "b"),
        (False, 1, "pad"),
        (True, 2, "W"),
        (True, 2, "b"),
    ],
)
def test_parameters_of_other_shapes_than_their_layer_says(use_upper, layer, name):
    """As a damaged file may have them. Compiled code would read beyond their ends."""
    pipe = make_pipe(np.random.default_rng(0), use_upper=use_upper)
    assert decoder.is_covered(pipe)
    changed = pipe.model.layers[layer]
    changed._params.set_param(changed.id, name, changed.get_param(name)[..., :1].copy())
    assert not decoder.is_covered(pipe)


def test_labels_added_after_training():
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    docs = [make_doc(rng, 20) for _ in range(3)]
    assert_same(pipe, docs)
    pipe.add_label("NEW")
    assert_same(pipe, [make_doc(rng, 20) for _ in range(3)])
    pipe.model.attrs["unseen_classes"].clear()
    assert_same(pipe, [make_doc(rng, 20) for _ in range(3)])


def test_a_label_that_was_met_as_one_word_only():
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    pipe.add_label("NEW")
    begin, _, _, unit = sorted(pipe.model.attrs["unseen_classes"])
    pipe.model.attrs["unseen_classes"].remove(unit)
    pipe.add_label("NEWER")
    lower = pipe.model.get_ref("lower")
    for bias in (-9.0, 0.0, 9.0):
        lower.get_param("b")[unit] = bias
        for _ in range(20):
            assert_same(pipe, [make_doc(rng, 20) for _ in range(3)])
    # An entity could begin now, and neither go on nor end.
    pipe.model.attrs["unseen_classes"].remove(begin)
    assert_same(pipe, [make_doc(rng, 20)], is_fast=False)


@pytest.mark.parametrize("use_upper", [False, True])
@pytest.mark.parametrize("pieces", [1, 2])
def test_entities_of_an_unknown_label(use_upper, pieces):
    """spaCy enlarges the recognizer by it. From then on, it is decoded here again, and
    has the label only where it was before.
    """
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, use_upper=use_upper, pieces=pieces)

    def make_docs():
        docs = [make_doc(rng, n) for n in (20, 1, 30)]
        docs[0].set_ents([Span(docs[0], 4, 6, "UNKNOWN")], default="missing")
        return docs

    assert_same(pipe, make_docs(), is_fast=False)
    assert "UNKNOWN" in pipe.labels and pipe.model.attrs["unseen_classes"]
    for _ in range(20):
        assert_same(pipe, make_docs())


def test_empty_docs():
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    assert_same(pipe, [make_doc(rng, 0), make_doc(rng, 0)], is_fast=False)
    assert_same(pipe, [], is_fast=False)


def test_other_transition_systems():
    class Moves(BiluoPushDown):
        pass

    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, moves=Moves(nlp.vocab.strings))
    assert_same(pipe, [make_doc(rng, 10)], is_fast=False)


def test_uninitialized():
    """The error is spaCy's."""
    pipe = make_pipe(np.random.default_rng(0))
    model = build_tb_parser_model(pipe.model.layers[0], "ner", False, 8, 2, False)
    bare = ModernBertNER(nlp.vocab, model, name="bare", moves=pipe.moves)
    errors = []
    for predict in (bare.predict, partial(EntityRecognizer.predict, bare)):
        with pytest.raises((KeyError, ValueError)) as error:
            predict([make_doc(np.random.default_rng(0), 3)])
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]


# -- In a pipeline ----------------------------------------------------------------


@pytest.fixture
def pipelines(trained, monkeypatch):
    """A trained pipeline, decoded by the stock parser, and again as it is."""
    stock = spacy.load(trained)
    fast = spacy.load(trained)
    pipe = stock.get_pipe("modernbert_ner")
    predict = ModernBertNER.predict
    calls = []

    def choose(self, docs):
        if self is pipe:
            return EntityRecognizer.predict(self, docs)
        calls.append(self.name)
        return predict(self, docs)

    monkeypatch.setattr(ModernBertNER, "predict", choose)
    return stock, fast, calls


def test_trained(pipelines):
    stock, fast, calls = pipelines
    expected = some_entities(stock.pipe(TEXTS))
    assert entities(fast.pipe(TEXTS)) == expected
    assert entities([fast(text) for text in TEXTS]) == expected
    assert len(calls) == 1 + len(TEXTS)
    assert decoder.is_covered(fast.get_pipe("modernbert_ner"))


def test_trained_after_a_ruler(pipelines):
    stock, fast, _ = pipelines
    for pipeline in (stock, fast):
        ruler = pipeline.add_pipe("entity_ruler", before="modernbert_ner")
        ruler.add_patterns([{"label": "PLACE", "pattern": "they say"}])
        pipeline.add_pipe("sentencizer", first=True)
    expected = entities(stock.pipe(TEXTS))
    assert len({label for ents in expected for _, _, label in ents}) == 2
    assert entities(fast.pipe(TEXTS)) == expected


def test_evaluate(pipelines):
    stock, fast, calls = pipelines
    scores = [
        pipeline.evaluate([make_example(pipeline, text) for text in TEXTS])
        for pipeline in (stock, fast)
    ]
    assert calls
    for name in ("ents_p", "ents_r", "ents_f", "ents_per_type"):
        assert scores[0][name] == scores[1][name]


def test_in_two_processes(pipelines):
    stock, fast, _ = pipelines
    expected = some_entities(stock.pipe(TEXTS))
    found = entities(fast.pipe(TEXTS, n_process=2, batch_size=3))
    assert found == expected


def test_training_goes_on(pipelines):
    """Weights that have changed are seen, and training does not mind."""
    stock, fast, _ = pipelines
    list(fast.pipe(TEXTS))
    for pipeline in (stock, fast):
        spacy.util.fix_random_seed(0)
        optimizer = pipeline.resume_training()
        example = make_example(pipeline, TEXTS[0])
        for _ in range(3):
            pipeline.update([example], sgd=optimizer)
        unlabelled = Example.from_dict(pipeline.make_doc(TEXTS[0]), {})
        pipeline.rehearse([unlabelled], sgd=optimizer)
    assert entities(fast.pipe(TEXTS)) == some_entities(stock.pipe(TEXTS))


# -- With and without Numba -------------------------------------------------------


def test_without_numba(trained, monkeypatch):
    expected = some_entities(spacy.load(trained).pipe(TEXTS))
    monkeypatch.setitem(sys.modules, "numba", None)
    components.import_compiled.cache_clear()
    try:
        assert components.import_compiled("decoder") is None
        assert entities(spacy.load(trained).pipe(TEXTS)) == expected
    finally:
        components.import_compiled.cache_clear()


@pytest.mark.parametrize("error", [OSError, ImportError])
def test_with_a_broken_numba(error, trained, monkeypatch, tmp_path):
    """An ImportError is what it raises with a NumPy that it does not support."""
    expected = some_entities(spacy.load(trained).pipe(TEXTS))
    script = f"raise {error.__name__}('no shared object file')"
    (tmp_path / "numba.py").write_text(script)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    components.import_compiled.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no shared object.*--force-reinstall"):
            found = entities(spacy.load(trained).pipe(TEXTS))
        assert found == expected
    finally:
        components.import_compiled.cache_clear()


# Numba reads its settings when it is imported, which each fork does by itself.
OF_NUMBA = """
import numpy as np
import spacy_modernbert.components

assert "numba" not in sys.modules

def count_hits(rules=None):
    from spacy_modernbert import transitions
    if rules is not None:
        transitions._RULES = rules
    from spacy_modernbert import decoder
    ones = np.ones(3, np.float32)
    assert decoder._dot(ones, ones) == 3
    print(len(decoder._dot.stats.cache_hits))

def do_without_compiler():
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    from spacy_modernbert import decoder, learner
    print(type(decoder._dot).__name__)

os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
runs = [count_hits, count_hits, lambda: count_hits("new"), do_without_compiler]
assert [fork(run) for run in runs] == [0, 0, 0, 0]
"""


@needs_forks
def test_settings_of_numba(tmp_path):
    """Compiled code is that of the rules, of which Numba itself knows nothing: it looks
    only at the file in which a function stands, and after an update of the rules would
    go on with the code of the old ones. And both modules work without its compiler.
    """
    found = run_script(FORKS + OF_NUMBA, tmp_path).split()
    assert found == ["0", "1", "0", "function"]


def test_without_a_folder_for_compiled_code(monkeypatch):
    njit = transitions.numba.njit

    def no_folder(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(transitions.numba, "njit", no_folder)
    assert transitions.compiled(lambda value: value + 1)(1) == 2
