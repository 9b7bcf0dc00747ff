"""Actions of recognizers that have not been seen yet."""

import numpy as np
import pytest
import spacy
import srsly

from .pipelines import blank_nlp, draw_scores
from .recognizers import make_pipe
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


@pytest.mark.parametrize("unseen", [5, [999], [-1], ["a"], [True], [1.0], {"1": 1}])
def test_what_is_no_action(unseen):
    """As a damaged file may have it."""
    pipe = make_pipe(np.random.default_rng(0))
    message = srsly.msgpack_loads(pipe.to_bytes())
    cfg = {**srsly.json_loads(message["cfg"]), "unseen_actions": unseen}
    message["cfg"] = srsly.json_dumps(cfg)
    before = dict(pipe.cfg)
    with pytest.raises(ValueError, match=r"'modernbert_ner'.*unseen_actions = "):
        pipe.from_bytes(srsly.msgpack_dumps(message))
    assert pipe.cfg == before and not pipe.model.attrs["unseen_classes"]
    # With the model, it is left out.
    pipe.from_bytes(srsly.msgpack_dumps(message), exclude=["model"])
    assert pipe.cfg == before and not pipe.model.attrs["unseen_classes"]
