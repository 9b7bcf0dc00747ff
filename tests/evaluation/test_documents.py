"""spaCy's Scorer is the oracle."""

import pytest
from hypothesis import given
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_modernbert.evaluation.counts import Counts
from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.slices import slice_by_mention, slice_by_seen

from .toys import NLP, examples_st, make_doc


def assert_as_spacy(examples):
    theirs = get_ner_prf(examples)
    docs = read_examples(examples)
    total = sum((doc.count() for doc in docs), Counts())
    if theirs["ents_f"] is None:
        assert total.gold == total.found == 0
        return
    assert total.precision == pytest.approx(theirs["ents_p"])
    assert total.recall == pytest.approx(theirs["ents_r"])
    assert total.f_score == pytest.approx(theirs["ents_f"])
    labels: dict = {}
    for doc in docs:
        for label, counts in doc.count_labels().items():
            labels[label] = labels.get(label, Counts()) + counts
    # spaCy also names labels of which all that was found is ignored.
    assert set(labels) <= set(theirs["ents_per_type"])
    for label, scores in theirs["ents_per_type"].items():
        ours = labels.get(label, Counts()).to_dict()
        assert {key: ours[key] for key in "prf"} == pytest.approx(scores)


@given(examples_st())
def test_scores_are_those_of_spacy(examples):
    assert_as_spacy(examples)


def test_other_tokens():
    """The reference has other tokens than the pipeline makes."""
    gold = Doc(NLP.vocab, words=["New York", "is", "large", "-", "ish"])
    gold.set_ents(
        [Span(gold, 0, 1, "PLACE"), Span(gold, 2, 5, "SIZE")], default="outside"
    )
    found = Doc(NLP.vocab, words=["New", "York", "is", "large", "-ish"])
    found.ents = [
        Span(found, 0, 1, "PLACE"),
        Span(found, 1, 2, "PLACE"),
        Span(found, 3, 5, "SIZE"),
    ]
    examples = [Example(found, gold)]
    assert_as_spacy(examples)
    (doc,) = read_examples(examples)
    assert doc.count() == Counts(correct=2, gold=2, found=3)


def test_what_is_not_annotated_is_not_scored():
    words = ["a", "b", "c", "d"]
    partly = make_doc(words, [])
    partly.set_ents([Span(partly, 0, 1, "A")], missing=[partly[2:3]], default="outside")
    found = make_doc(words, [(0, 1, "A"), (2, 3, "B"), (3, 4, "C")])
    bare = Doc(NLP.vocab, words=words)
    examples = [Example(found, partly), Example(found.copy(), bare)]
    assert_as_spacy(examples)
    (doc,) = read_examples(examples)
    assert doc.count() == Counts(correct=1, gold=1, found=2)
    assert doc.id == "document 1"


def test_what_is_correct_has_the_name_of_the_reference():
    """Part of a token of the reference was found, which spaCy counts as correct."""
    gold = make_doc(["Paris-based", "firms"], [(0, 1, "PLACE")])
    found = Doc(
        NLP.vocab,
        words=["Paris", "-", "based", "firms"],
        spaces=[False, False, True, False],
    )
    found.ents = [Span(found, 0, 1, "PLACE")]
    examples = [Example(found, gold)]
    assert_as_spacy(examples)
    docs = read_examples(examples)
    assert docs[0].found == docs[0].gold
    for slices in (slice_by_mention(docs), slice_by_seen(docs, {})):
        assert [each.counts for each in slices] == [Counts(1, 1, 1)]
