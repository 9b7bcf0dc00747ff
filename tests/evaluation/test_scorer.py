import pytest
import spacy
from hypothesis import given
from spacy.training.loop import create_evaluation_callback
from spacy.util import registry

from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.modes import count_modes
from spacy_modernbert.evaluation.scorer import long_ner_scorer_v1

from .toys import examples_st, make_example

NAME = "spacy-modernbert.long_ner_scorer.v1"


def test_it_is_registered():
    assert registry.scorers.get(NAME) is long_ner_scorer_v1


def test_by_hand():
    gold, found = [(0, 1, "A"), (3, 5, "A")], [(0, 1, "A"), (3, 4, "B")]
    scores = long_ner_scorer_v1()(
        [make_example(["u", "v", "w", "u", "u"], gold, found)]
    )
    assert (scores["ents_p"], scores["ents_r"], scores["ents_f"]) == (0.5, 0.5, 0.5)
    assert scores["ents_per_type"] == {
        "A": {"p": 1.0, "r": 0.5, "f": pytest.approx(2 / 3)},
        "B": {"p": 0.0, "r": 0.0, "f": 0.0},
    }
    assert scores["ents_strict_f"] == 0.5
    assert scores["ents_partial_f"] == 0.75
    # "u" is found as A and as B.
    assert scores["ents_consistency"] == 0.0
    assert scores["ents_by_length"] == {"0–255": 0.5}
    # Both true names are new. What was found in the place of the second counts with it.
    assert scores["ents_by_distance"] == {"first mention": 0.5}


@given(examples_st())
def test_it_gives_what_spacy_gives(examples):
    scores = long_ner_scorer_v1()(examples)
    theirs = registry.scorers.get("spacy.ner_scorer.v1")()(examples)
    assert {key: scores[key] for key in theirs} == theirs
    matches = [match for doc in read_examples(examples) for match in doc.matches]
    assert (scores["ents_type_r"] is None) == (theirs["ents_f"] is None)
    if matches:
        assert scores["ents_type_r"] == count_modes(matches)["type"].recall
        assert scores["ents_strict_f"] == pytest.approx(theirs["ents_f"])


def test_in_a_pipeline():
    nlp = spacy.blank("en")
    ner = nlp.add_pipe("ner", config={"scorer": {"@scorers": NAME}})
    ner.add_label("A")
    nlp.initialize()
    examples = [make_example(["u", "v"], [(0, 1, "A")], [])]
    examples = [spacy.training.Example(nlp.make_doc("u v"), examples[0].reference)]
    scores = nlp.evaluate(examples)
    assert {"ents_f", "ents_per_type", "ents_exact_f", "ents_by_length"} <= set(scores)


def test_its_weights_outlast_an_evaluation_that_finds_nothing():
    """spaCy forgets the weight of a score that is None once."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler", config={"scorer": {"@scorers": NAME}})
    ruler.add_patterns([{"label": "A", "pattern": "not there"}])
    gold = [(0, 1, "A"), (1, 2, "A")]
    reference = make_example(["u", "u"], gold, []).reference
    evaluate = create_evaluation_callback(
        nlp,
        lambda nlp: [spacy.training.Example(nlp.make_doc("u u"), reference)],
        {"ents_f": 0.25, "ents_consistency": 0.75},
    )
    score, scores = evaluate()
    assert score == scores["ents_consistency"] == 0.0
    ruler.add_patterns([{"label": "A", "pattern": "u"}])
    assert evaluate()[0] == 1.0
    # Where nothing is annotated, there is nothing to score.
    bare = make_example(["u"], [], []).predicted.copy()
    bare.user_data.clear()
    empty = spacy.training.Example(bare, spacy.tokens.Doc(nlp.vocab, words=["u"]))
    assert long_ner_scorer_v1()([empty])["ents_consistency"] is None
