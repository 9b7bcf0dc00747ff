"""Actions of recognizers that have not been seen yet."""

import pytest
import spacy

from .pipelines import blank_nlp, draw_scores
from .util import TEXTS, entities, some_entities


@pytest.mark.parametrize("use_upper", [False, True])
@pytest.mark.parametrize("by_bytes", [False, True])
def test_actions_that_were_not_seen_are_saved(
    checkpoint, tmp_path, use_upper, by_bytes
):
    """A label that was added has scores of zero. In a pipeline that was loaded, too,
    they are lower than all others.
    """
    nlp = blank_nlp(checkpoint, use_upper, ["PERSON"])
    ner = nlp.get_pipe("modernbert_ner")
    nlp.initialize()
    draw_scores(ner)
    # So that zero would be the best score.
    scores = ner.model.get_ref("upper" if use_upper else "lower")
    scores.set_param("b", scores.get_param("b") - 1000)
    wanted = some_entities(nlp.pipe(TEXTS))
    ner.add_label("LATER")
    unseen = set(ner.model.attrs["unseen_classes"])
    assert unseen and entities(nlp.pipe(TEXTS)) == wanted
    if by_bytes:
        loaded = blank_nlp(checkpoint, use_upper).from_bytes(nlp.to_bytes())
    else:
        nlp.to_disk(tmp_path)
        loaded = spacy.load(tmp_path)
    other = loaded.get_pipe("modernbert_ner")
    assert other.model.attrs["unseen_classes"] == unseen
    assert entities(loaded.pipe(TEXTS)) == wanted
    assert other.cfg == ner.cfg
    # The settings that were saved are those of the model that was.
    other.from_bytes(ner.to_bytes(), exclude=["model"])
    assert other.cfg == ner.cfg
