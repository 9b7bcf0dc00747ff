"""Recognizers that are left as they were."""

import gc
import shutil

import numpy as np
import pytest
from spacy.tokens import Span
from thinc.api import fix_random_seed

from spacy_modernbert.layers.shim import EncoderShim

from .pipelines import blank_nlp, draw_scores, lstm_nlp, weights_of
from .util import TEXTS, entities, make_checkpoint, make_examples, some_entities


def relabelled(nlp, label):
    """Examples in which another label is frequent, so that its actions come first."""
    examples = make_examples(nlp, 2)
    for example in examples:
        doc = example.reference
        doc.ents = [Span(doc, i, i + 1, label) for i in range(len(doc))]
    return examples


@pytest.mark.parametrize("use_upper", [False, True])
@pytest.mark.parametrize("label", ["PLACE", "ANOTHER"])
@pytest.mark.parametrize("is_added", [False, True])
def test_an_encoder_that_is_gone(tmp_path, use_upper, label, is_added):
    """What was learned is still there when it cannot be initialized again."""
    checkpoint = make_checkpoint(tmp_path / "encoder")
    nlp = blank_nlp(checkpoint, use_upper)
    ner = nlp.get_pipe("modernbert_ner")
    examples = make_examples(nlp, 4)
    optimizer = nlp.initialize(lambda: examples)
    draw_scores(ner)
    nlp.update(examples, sgd=optimizer)  # so that the encoder has to be read again
    if is_added:
        ner.add_label("LATER")
    wanted = some_entities(nlp.pipe(TEXTS))
    labels, unseen = ner.labels, set(ner.model.attrs["unseen_classes"])
    shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match="encoder"):
        nlp.initialize(lambda: relabelled(nlp, label))
    assert ner.labels == labels and ner.model.attrs["unseen_classes"] == unseen
    assert bool(unseen) == is_added
    assert entities(nlp.pipe(TEXTS)) == wanted


def no_vocab(folder):
    """As `nlp.to_disk` saves components, which `from_disk` does not expect."""
    return folder


def no_encoder(folder):
    shutil.rmtree(folder / "encoder")
    return folder


def cut_short(folder):
    data = (folder / "model").read_bytes()
    (folder / "model").write_bytes(data[: len(data) // 2])
    return folder


@pytest.mark.parametrize("use_upper", [False, True])
@pytest.mark.parametrize("harm", [no_vocab, no_encoder, cut_short])
def test_what_cannot_be_loaded(checkpoint, tmp_path, use_upper, harm):
    """The recognizer into which it was to be loaded is as it was."""
    other = blank_nlp(checkpoint, use_upper, ["ONE", "TWO", "THREE"])
    other.initialize()
    draw_scores(other.get_pipe("modernbert_ner"))
    other.to_disk(tmp_path)
    folder = harm(tmp_path / "modernbert_ner")
    nlp = blank_nlp(checkpoint, use_upper, ["PERSON"])
    nlp.initialize()
    ner = nlp.get_pipe("modernbert_ner")
    draw_scores(ner)
    ner.add_label("LATER")
    wanted = some_entities(nlp.pipe(TEXTS))
    labels, unseen, cfg = (
        ner.labels,
        set(ner.model.attrs["unseen_classes"]),
        {**ner.cfg},
    )
    assert unseen
    message = {
        no_vocab: "strings.json",
        no_encoder: "no such folder",
        cut_short: r"modernbert_ner.model, cannot be read: .*incomplete input",
    }[harm]
    with pytest.raises(ValueError, match=message):
        ner.from_disk(folder, exclude=[] if harm is no_vocab else ["vocab"])
    assert (ner.labels, ner.model.attrs["unseen_classes"], ner.cfg) == (
        labels,
        unseen,
        cfg,
    )
    assert entities(nlp.pipe(TEXTS)) == wanted
    data = ner.to_bytes()
    with pytest.raises(ValueError, match="incomplete input"):
        ner.from_bytes(data[: len(data) // 2])
    assert entities(nlp.pipe(TEXTS)) == wanted
    # And it learns as before.
    nlp.update(make_examples(nlp, 2), sgd=nlp.create_optimizer())


@pytest.mark.parametrize("is_collecting", [False, True])
def test_what_fails_leaves_more_than_the_model(checkpoint, is_collecting):
    """The model that it rehearses from; and the collector of garbage, which msgpack
    turns off while it reads.
    """
    nlp = blank_nlp(checkpoint, use_upper=False)
    ner = nlp.get_pipe("modernbert_ner")
    nlp.initialize(lambda: make_examples(nlp, 2))
    nlp.resume_training()
    rehearsed = ner._rehearsal_model
    assert rehearsed is not None
    data = ner.to_bytes()
    was_collecting = gc.isenabled()
    try:
        (gc.enable if is_collecting else gc.disable)()
        with pytest.raises(ValueError, match="incomplete input"):
            ner.from_bytes(data[: len(data) // 2])
        assert gc.isenabled() == is_collecting
    finally:
        (gc.enable if was_collecting else gc.disable)()
    assert ner._rehearsal_model is rehearsed


@pytest.mark.parametrize("by_bytes", [False, True])
def test_interrupted_while_it_is_loaded(checkpoint, tmp_path, monkeypatch, by_bytes):
    """By Ctrl-C, when all but the encoder is there, or all but half of it."""
    other = blank_nlp(checkpoint, use_upper=False, labels=["ONE", "TWO"])
    other.initialize()
    saved = other.get_pipe("modernbert_ner")
    saved.to_disk(tmp_path)
    data = saved.to_bytes()
    nlp = blank_nlp(checkpoint, use_upper=False, labels=["PERSON"])
    ner = nlp.get_pipe("modernbert_ner")
    nlp.initialize()
    draw_scores(ner)
    wanted, before = some_entities(nlp.pipe(TEXTS)), weights_of(nlp)

    def interrupt(*args, **kwargs):
        assert ner.labels == ("ONE", "TWO")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        # What comes last.
        if by_bytes:
            patched.setattr("spacy_modernbert.components.take_unseen", interrupt)
            ner.from_bytes(data)
        else:
            patched.setattr(EncoderShim, "load_apart", interrupt)
            ner.from_disk(tmp_path)
    assert ner.labels == ("PERSON",)
    assert entities(nlp.pipe(TEXTS)) == wanted
    found = weights_of(nlp)
    assert found.keys() == before.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    # And nothing is in the way the next time.
    ner.from_bytes(data)
    assert ner.labels == ("ONE", "TWO")


def test_what_torch_holds_when_something_cannot_be_loaded(checkpoint, tmp_path):
    """Layers of torch load into the weights that they have."""

    def make(seed):
        fix_random_seed(seed)
        nlp = lstm_nlp(checkpoint)
        examples = make_examples(nlp, 2)
        nlp.initialize(lambda: examples)
        draw_scores(nlp.get_pipe("ner"))
        return nlp

    make(1).to_disk(tmp_path)
    shutil.rmtree(tmp_path / "ner" / "encoder")
    nlp = make(2)
    wanted = some_entities(nlp.pipe(TEXTS))
    with pytest.raises(ValueError, match="encoder"):
        nlp.get_pipe("ner").from_disk(tmp_path / "ner", exclude=["vocab"])
    assert entities(nlp.pipe(TEXTS)) == wanted
