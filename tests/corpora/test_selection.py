from typing import Dict, List, Tuple

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_modernbert.corpora.raw import Annotation
from spacy_modernbert.corpora.selection import (
    CROSSING,
    DISCONTINUOUS,
    DUPLICATE,
    EMPTY,
    NESTED,
    REASONS,
    SAME_SPAN,
    Selection,
    select_entities,
)

LABELS = ("A", "B", "C")
NLP = spacy.blank("en")


def select(text: str, *annotations: Tuple[str, str]) -> Selection:
    """Annotations as (label, text); pieces are divided by `|`. Each is found at its
    first occurrence behind the piece before."""
    doc = NLP.tokenizer(text)
    found = []
    for label, pieces in annotations:
        position = 0
        fragments = []
        for piece in pieces.split("|"):
            start = text.index(piece, position)
            position = start + len(piece)
            fragments.append((start, position))
        found.append(Annotation(label, tuple(fragments), pieces))
    return select_entities(doc, found, LABELS)


def entities(selection: Selection) -> List[Tuple[str, str]]:
    return [(span.label_, span.text) for span in selection.entities]


def dropped(selection: Selection) -> Dict[str, int]:
    assert tuple(selection.dropped) == REASONS
    return {reason: n for reason, n in selection.dropped.items() if n}


def test_apart():
    selection = select(
        "Anne met Mary Musgrove .", ("B", "Mary Musgrove"), ("A", "Anne")
    )
    assert entities(selection) == [("A", "Anne"), ("B", "Mary Musgrove")]
    assert dropped(selection) == {}
    assert (selection.expanded, selection.enclosed) == (0, 0)


def test_side_by_side():
    selection = select("Anne Mary .", ("A", "Anne"), ("A", "Mary"))
    assert entities(selection) == [("A", "Anne"), ("A", "Mary")]


@pytest.mark.parametrize("inner", ["the county", "Gloucester", "county"])
@pytest.mark.parametrize("label", LABELS)
def test_outermost_wins(inner, label):
    outer = ("B", "the county of Gloucester")
    for order in ([outer, (label, inner)], [(label, inner), outer]):
        selection = select("in the county of Gloucester .", *order)
        assert entities(selection) == [outer]
        assert dropped(selection) == {NESTED: 1}


def test_nested_twice():
    selection = select(
        "the brother of Isabella 's husband",
        ("A", "Isabella"),
        ("A", "Isabella 's husband"),
        ("A", "the brother of Isabella 's husband"),
    )
    assert len(selection.entities) == 1
    assert dropped(selection) == {NESTED: 2}


def test_crossing_longer_wins():
    selection = select("one two three four", ("A", "one two"), ("B", "two three four"))
    assert entities(selection) == [("B", "two three four")]
    assert dropped(selection) == {CROSSING: 1}


def test_crossing_earlier_wins_if_equally_long():
    selection = select("aaa bbb ccc", ("A", "bbb ccc"), ("B", "aaa bbb"))
    assert entities(selection) == [("B", "aaa bbb")]
    assert dropped(selection) == {CROSSING: 1}


def test_same_span_first_label_wins():
    selection = select("a cell", ("C", "cell"), ("B", "cell"))
    assert entities(selection) == [("B", "cell")]
    assert dropped(selection) == {SAME_SPAN: 1}


def test_duplicate():
    selection = select("a cell", ("B", "cell"), ("B", "cell"), ("B", "cell"))
    assert entities(selection) == [("B", "cell")]
    assert dropped(selection) == {DUPLICATE: 2}


@pytest.mark.parametrize(
    "text, inner, outer",
    [
        ("the Ptenpc2 mice", "Pten", "Ptenpc2"),
        ("a heteroduplex", "duplex", "heteroduplex"),
        ("in Sam68−/− mice", "Sam68", "Sam68−/−"),
    ],
)
def test_misaligned_is_expanded(text, inner, outer):
    selection = select(text, ("A", inner))
    assert entities(selection) == [("A", outer)]
    assert selection.expanded == 1


def test_two_in_one_token():
    selection = select("a CAG::H2B line", ("A", "CAG"), ("B", "H2B"))
    assert entities(selection) == [("A", "CAG::H2B")]
    assert dropped(selection) == {SAME_SPAN: 1}
    assert selection.expanded == 1


def test_pieces_are_enclosed():
    selection = select("the fission or yeast", ("A", "fission|yeast"))
    assert entities(selection) == [("A", "fission or yeast")]
    assert (selection.enclosed, selection.expanded) == (1, 0)


def test_pieces_give_way_to_whole_ones():
    selection = select(
        "ES and somatic cells", ("A", "ES|cells"), ("B", "somatic cells")
    )
    assert entities(selection) == [("B", "somatic cells")]
    assert dropped(selection) == {DISCONTINUOUS: 1}
    assert selection.enclosed == 0


def test_pieces_inside_a_whole_one():
    selection = select(
        "alpha and beta cells", ("A", "alpha|cells"), ("B", "alpha and beta cells")
    )
    assert dropped(selection) == {DISCONTINUOUS: 1}


def test_pieces_twice():
    selection = select(
        "fission or yeast", ("A", "fission|yeast"), ("A", "fission|yeast")
    )
    assert dropped(selection) == {DUPLICATE: 1}


def test_longer_pieces_win():
    selection = select("a b c d", ("A", "b|d"), ("B", "a|d"))
    assert entities(selection) == [("B", "a b c d")]
    assert dropped(selection) == {DISCONTINUOUS: 1}


def test_white_space_at_the_ends():
    selection = select("So Anne \n went", ("A", " Anne \n "))
    assert entities(selection) == [("A", "Anne")]
    assert selection.expanded == 0


def test_nothing_but_white_space():
    selection = select("So \n\n went", ("A", " \n\n "), ("A", ""))
    assert entities(selection) == []
    assert dropped(selection) == {EMPTY: 2}


def test_line_breaks_inside():
    selection = select("the\n\nold man", ("A", "the\n\nold man"))
    assert entities(selection) == [("A", "the\n\nold man")]


def test_no_text():
    assert select("").entities == ()


@st.composite
def annotated_texts(draw):
    text = draw(st.text(alphabet="ab −/.,'\n😀é", max_size=30))
    edges = st.integers(0, len(text))
    spans = st.tuples(edges, edges).map(lambda pair: tuple(sorted(pair)))
    fragments = st.lists(spans, min_size=1, max_size=2).map(lambda x: tuple(sorted(x)))
    annotations = st.builds(Annotation, st.sampled_from(LABELS), fragments, st.just(""))
    return text, draw(st.lists(annotations, max_size=8))


def slow_selection(doc, annotations):
    """The rule, word by word: (first token, token behind the last one, label)."""
    chosen = []
    for a in sorted(
        annotations,
        key=lambda a: (len(a.fragments) > 1, a.start - a.end, a.start, a.label),
    ):
        inside = [
            token.i
            for token in doc
            for at, character in enumerate(token.text, start=token.idx)
            if a.start <= at < a.end and not character.isspace()
        ]
        taken = [i for start, end, _ in chosen for i in range(start, end)]
        if inside and not set(taken) & set(range(min(inside), max(inside) + 1)):
            chosen.append((min(inside), max(inside) + 1, a.label))
    return sorted(chosen)


@given(annotated_texts())
@settings(max_examples=300)
def test_like_the_slow_selection(example):
    text, annotations = example
    doc = NLP.tokenizer(text)
    selection = select_entities(doc, annotations, LABELS)
    found = [(span.start, span.end, span.label_) for span in selection.entities]
    assert found == slow_selection(doc, annotations)
    assert len(found) + sum(selection.dropped.values()) == len(annotations)
    doc.set_ents(list(selection.entities), default="outside")
    assert doc.ents == selection.entities
    for span in doc.ents:
        assert not span[0].is_space and not span[-1].is_space
