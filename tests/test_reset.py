"""Recognizers that are initialized again, or loaded into."""

import numpy as np
import pytest
from thinc.api import fix_random_seed

from .pipelines import blank_nlp, draw_scores, weights_of
from .util import TEXTS, entities, make_examples, some_entities


def learn(nlp, optimizer=None):
    """RETURNS: The losses of two updates, each rehearsed after, and the weights."""
    fix_random_seed(0)
    # Else it would be the one that the pipeline had before.
    optimizer = nlp.resume_training(sgd=optimizer or nlp.create_optimizer())
    examples = make_examples(nlp, 2)
    losses = []
    for _ in range(2):
        for learn in (nlp.update, nlp.rehearse):
            found = learn(examples, sgd=optimizer, losses={})
            losses.append(float(found["modernbert_ner"]))
    return losses, weights_of(nlp)


@pytest.mark.parametrize("use_upper", [False, True])
def test_initialized_again(checkpoint, use_upper):
    """It starts from scratch: of spaCy's parser, the lower layer alone would not."""
    nlp = blank_nlp(checkpoint, use_upper)
    ner = nlp.get_pipe("modernbert_ner")
    examples = make_examples(nlp, 2)

    def begin():
        fix_random_seed(0)
        return nlp.initialize(lambda: examples)

    optimizer = begin()
    fresh = weights_of(nlp)
    nlp.update(examples, sgd=optimizer)
    assert any((each != fresh[name]).any() for name, each in weights_of(nlp).items())
    begin()
    for name, each in weights_of(nlp).items():
        np.testing.assert_array_equal(each, fresh[name], name)
    # A label that was added, and has not been trained, is like all others then.
    ner.add_label("ANOTHER")
    assert ner.model.attrs["unseen_classes"]
    begin()
    assert not ner.model.attrs["unseen_classes"]


@pytest.mark.parametrize("use_upper", [False, True])
@pytest.mark.parametrize("labels", [[], ["PLACE"], ["A", "B", "C"]])
@pytest.mark.parametrize("by_bytes", [False, True])
def test_loaded_into_one_of_other_labels(
    checkpoint, tmp_path, use_upper, labels, by_bytes
):
    """Nothing of it is left."""
    trained = blank_nlp(checkpoint, use_upper, ["PERSON", "PLACE"])
    trained.initialize()
    draw_scores(trained.get_pipe("modernbert_ner"))
    wanted = some_entities(trained.pipe(TEXTS))
    other = blank_nlp(checkpoint, use_upper, labels)
    other.initialize()
    if by_bytes:
        other.from_bytes(trained.to_bytes())
    else:
        trained.to_disk(tmp_path)
        other.from_disk(tmp_path)
    ner = other.get_pipe("modernbert_ner")
    assert ner.labels == trained.get_pipe("modernbert_ner").labels
    assert not ner.model.attrs["unseen_classes"]
    assert entities(other.pipe(TEXTS)) == wanted


@pytest.mark.parametrize("use_upper", [False, True])
def test_loaded_into_one_that_was_learning(checkpoint, use_upper):
    """It learns on as a fresh one would, and an optimizer that remembers what was there
    is not in the way.
    """
    nlp = blank_nlp(checkpoint, use_upper, ["ONE", "TWO", "THREE"])
    examples = make_examples(nlp, 2)
    optimizer = nlp.initialize(lambda: examples)
    nlp.update(examples, sgd=optimizer)
    nlp.resume_training(sgd=optimizer)
    nlp.update(examples, sgd=False)  # with gradients that nothing is stepped by yet
    other = blank_nlp(checkpoint, use_upper)
    other.initialize(lambda: make_examples(other, 2))
    data = other.to_bytes()
    nlp.from_bytes(data)
    losses, found = learn(nlp)
    fresh = blank_nlp(checkpoint, use_upper).from_bytes(data)
    wanted_losses, wanted = learn(fresh)
    assert len(set(losses)) == len(losses) and losses == pytest.approx(wanted_losses)
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, wanted[name], atol=1e-5, err_msg=name)
    nlp.from_bytes(data)
    assert np.isfinite(learn(nlp, optimizer)[0]).all()


@pytest.mark.parametrize("use_upper", [False, True])
def test_bytes_without_a_model(checkpoint, use_upper):
    """Leave the one that is there."""
    nlp = blank_nlp(checkpoint, use_upper)
    nlp.initialize(lambda: make_examples(nlp, 2))
    ner = nlp.get_pipe("modernbert_ner")
    draw_scores(ner)
    before, wanted = weights_of(nlp), some_entities(nlp.pipe(TEXTS))
    ner.from_bytes(ner.to_bytes(exclude=["model"]))
    assert entities(nlp.pipe(TEXTS)) == wanted
    for name, array in weights_of(nlp).items():
        np.testing.assert_array_equal(array, before[name])
