"""The compiled update. spaCy's is the oracle."""

import random

import numpy as np
import pytest
import spacy
from spacy.pipeline import EntityRecognizer
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import fix_random_seed

from .util import require

require("numba", reason="The update is compiled with Numba.")

from spacy_modernbert import components, learner  # noqa: E402

from . import util  # noqa: E402
from .recognizers import WIDTH, make_doc, make_pipe, nlp  # noqa: E402

TEXTS = [util.make_text(seed, 3) for seed in range(300, 304)]


def make_example(rng, n_tokens, n_labels=4, presets="none"):
    """RETURNS (Example): With presets in one Doc, and entities, blocked, missing and
    outside tokens in the other. With "plain" ones, nothing keeps the recognizer from
    any entity: neither white space nor sentences.
    """
    is_plain = presets == "plain"
    given = make_doc(rng, n_tokens, n_labels, presets)
    words = ["word" if is_plain else token.text for token in given]
    predicted = Doc(nlp.vocab, words)
    predicted.tensor = given.tensor
    if not is_plain:
        copied = ["ENT_IOB", "ENT_TYPE", "SENT_START"]
        predicted.from_array(copied, given.to_array(copied))
    right = make_doc(rng, n_tokens, n_labels, "spans").to_array(["ENT_IOB", "ENT_TYPE"])
    reference = Doc(nlp.vocab, words).from_array(["ENT_IOB", "ENT_TYPE"], right)
    return Example(predicted, reference)


def gradients(pipe):
    return {
        (node.name, name): node.get_grad(name).copy()
        for node in pipe.model.walk()
        for name in node.param_names
        if node.has_grad(name)
    }


def run(update, pipe, examples):
    """RETURNS (Tuple): All that comes of an update, with the next number at random."""
    for node in pipe.model.walk():
        for name in node.param_names:
            if node.has_grad(name):
                node.get_grad(name)[:] = 0
    random.seed(0)
    losses = {"other": 1.0}
    try:
        update(pipe, examples, losses)
    except ValueError as error:
        return str(error)
    return losses, gradients(pipe), random.random()


def stock(pipe, examples, losses):
    EntityRecognizer.update(pipe, examples, losses=losses)


def here(pipe, examples, losses):
    assert learner.update(pipe, examples, 0.0, None, losses)


def assert_same(pipe, examples):
    """RETURNS (bool): Whether there was something to learn."""
    wanted = run(stock, pipe, examples)
    found = run(here, pipe, examples)
    if isinstance(wanted, str) or isinstance(found, str):
        # Of several things that are wrong, another may be named.
        assert isinstance(wanted, str) and isinstance(found, str), (wanted, found)
        return False
    for name, loss in wanted[0].items():
        assert found[0][name] == pytest.approx(loss, rel=1e-4)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        np.testing.assert_allclose(found[1][name], gradient, rtol=1e-3, atol=1e-3)
    assert found[2] == wanted[2]
    return wanted[0]["modernbert_ner"] > 0


@pytest.mark.parametrize("presets", ["plain", "none", "spans", "arrays"])
def test_random_settings(presets):
    learned = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n_labels = int(rng.integers(1, 19))
        pipe = make_pipe(
            rng,
            n_labels,
            hidden_width=int(rng.integers(1, 70)),
            pieces=int(rng.integers(2, 4)),
            update_with_oracle_cut_size=int(rng.choice([0, 2, 5, 30])),
        )
        lengths = [int(rng.integers(1, 40)), *rng.choice([0, 1, 2, 90], size=2)]
        examples = [make_example(rng, n, n_labels, presets) for n in lengths]
        learned += assert_same(pipe, examples)
    assert learned > (90 if presets == "plain" else 30)


def test_one_long_doc():
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, 6, hidden_width=64)
    assert assert_same(pipe, [make_example(rng, 3000, 6, "plain")])


def test_other_tokens():
    """spaCy aligns them."""
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, update_with_oracle_cut_size=3)
    words = ["New", "York", "is", "in", "New-York", "they", "say"]
    reference = Doc(
        nlp.vocab, words, ents=["B-LABEL0", "I-LABEL0", *"OO", "B-LABEL1", *"OO"]
    )
    words = ["New", "York", "is", "in", "New", "-", "York", "they say"]
    predicted = Doc(nlp.vocab, words)
    predicted.tensor = rng.normal(size=(len(words), WIDTH)).astype(np.float32)
    assert assert_same(pipe, [Example(predicted, reference)])


@pytest.mark.parametrize("said", ["nothing", "of some"])
def test_where_nothing_is_said(said):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, update_with_oracle_cut_size=5)
    examples = [make_example(rng, 40, presets="plain") for _ in range(2)]
    blank = [Doc(nlp.vocab, [t.text for t in eg.reference]) for eg in examples]
    examples[0].reference = blank[0]
    if said == "nothing":
        examples[1].reference = blank[1]
    else:
        blank[1].set_ents([Span(blank[1], 7, 9, "LABEL0")], default="missing")
        examples[1].reference = blank[1]
    assert assert_same(pipe, examples) == (said != "nothing")


def test_tokens_that_nothing_is_learned_from_may_be_anything():
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    blank, other = (make_example(rng, 20, presets="plain") for _ in range(2))
    blank.reference = Doc(nlp.vocab, [token.text for token in blank.reference])
    blank.predicted.tensor[3] = np.nan
    assert assert_same(pipe, [blank, other])
    lower = pipe.model.get_ref("lower")
    assert np.isfinite(lower.get_grad("W")).all()


def test_stretches_of_one_token():
    """spaCy draws lengths of 0 or 1 here, and fails with 0."""
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, update_with_oracle_cut_size=1)
    examples = [make_example(rng, 9, presets="plain")]
    for _ in range(8):
        losses = {}
        assert learner.update(pipe, examples, 0.0, None, losses)
        assert losses["modernbert_ner"] > 0


@pytest.mark.parametrize("n_rows", [9, 11])
def test_docs_with_other_vectors(n_rows):
    """As where tokens were merged after they were made: nothing is changed."""
    rng = np.random.default_rng(0)
    pipe, example = make_pipe(rng), make_example(rng, 10, presets="plain")
    width = example.predicted.tensor.shape[1]
    example.predicted.tensor = np.zeros((n_rows, width), dtype=np.float32)
    with pytest.raises(ValueError, match=f"given {n_rows} vectors for 10 tokens"):
        learner.update(pipe, [example], 0.0, None, {})
    assert not pipe.model.get_ref("lower").has_grad("W")


def test_an_empty_doc_among_others():
    rng = np.random.default_rng(0)
    examples = [make_example(rng, n, presets="plain") for n in (0, 9, 0)]
    assert assert_same(make_pipe(rng), examples)


# -- What is left to spaCy ----------------------------------------------------------


def assert_left(pipe, examples):
    losses = {"other": 1.0}
    state = random.getstate()
    assert not learner.update(pipe, examples, 0.1, None, losses)
    assert losses == {"other": 1.0} and random.getstate() == state
    assert not any(gradient.any() for gradient in gradients(pipe).values())


@pytest.mark.parametrize(
    "settings",
    [
        {"beam_width": 2},
        {"extra_state_tokens": True},
        {"use_upper": True},
        {"pieces": 1},
        {"incorrect_spans_key": "wrong"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_recognizers(settings):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, **settings)
    assert_left(pipe, [make_example(rng, 20, presets="plain")])


def test_a_label_that_was_added():
    """It is scored below all others until it is met."""
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    pipe.add_label("NEW")
    example = make_example(rng, 20, presets="plain")
    assert_left(pipe, [example])
    example.reference.set_ents([Span(example.reference, 4, 6, "NEW")])
    pipe.model.attrs["unseen_classes"].clear()
    assert assert_same(pipe, [example])


@pytest.mark.parametrize("label", ["UNKNOWN", "!LABEL0"])
@pytest.mark.parametrize("part", ["predicted", "reference"])
def test_labels_of_which_spacy_has_to_know(part, label):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    example = make_example(rng, 20, presets="plain")
    doc = getattr(example, part)
    doc.set_ents([Span(doc, 4, 6, label)], default="missing")
    assert_left(pipe, [example])
    if label == "UNKNOWN":
        EntityRecognizer.update(pipe, [example], losses={})
        assert label in pipe.labels


def test_a_known_label_by_which_spacy_once_said_that_it_is_not_so():
    """spaCy says that it no longer does."""
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng)
    pipe.add_label("!LABEL0")
    pipe.model.attrs["unseen_classes"].clear()
    example = make_example(rng, 20, presets="plain")
    example.reference.set_ents([Span(example.reference, 4, 6, "!LABEL0")])
    assert_left(pipe, [example])
    with pytest.raises(ValueError, match="E869"):
        EntityRecognizer.update(pipe, [example], losses={})


def test_no_tokens():
    rng = np.random.default_rng(0)
    assert_left(make_pipe(rng), [])
    assert_left(make_pipe(rng), [make_example(rng, 0)])


def test_wrong_examples():
    with pytest.raises(TypeError, match="Example"):
        make_pipe(np.random.default_rng(0)).update(["text"])


# -- In a pipeline ------------------------------------------------------------------


def test_training(trained, monkeypatch):
    """With an encoder, dropout and an optimizer: the same losses, step by step."""
    found = []
    for import_compiled in (components.import_compiled, lambda name: None):
        monkeypatch.setattr(components, "import_compiled", import_compiled)
        pipeline = spacy.load(trained)
        fix_random_seed(0)
        optimizer = pipeline.resume_training()
        examples = [util.make_example(pipeline, text) for text in TEXTS]
        losses = [
            pipeline.update(examples, sgd=optimizer, drop=0.1)["modernbert_ner"]
            for _ in range(4)
        ]
        found.append(losses)
    assert found[0][0] > 0
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


def test_it_is_used(trained, monkeypatch):
    done = []
    update = learner.update
    monkeypatch.setattr(
        learner, "update", lambda *a: done.append(update(*a)) or done[-1]
    )
    pipeline = spacy.load(trained)
    losses = pipeline.update([util.make_example(pipeline, TEXTS[0])], losses={})
    assert losses["modernbert_ner"] > 0 and done == [True]
