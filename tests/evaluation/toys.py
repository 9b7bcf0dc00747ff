"""Small documents with entities, made by hand or at random."""

from typing import List, Sequence, Tuple

import spacy
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_modernbert.evaluation.documents import ScoredDoc, read_examples
from spacy_modernbert.evaluation.matching import Mention

NLP = spacy.blank("en")
LABELS = ("A", "B", "C")

Ents = Sequence[Tuple[int, int, str]]


def mention(start: int, end: int, label: str, name: str = "") -> Mention:
    return Mention(start, end, label, name)


def make_doc(words: Sequence[str], ents: Ents, name: str = "") -> Doc:
    doc = Doc(NLP.vocab, words=list(words))
    doc.set_ents([Span(doc, *ent) for ent in ents], default="outside")
    if name:
        doc.user_data["id"] = name
    return doc


def make_example(words: Sequence[str], gold: Ents, found: Ents, name="") -> Example:
    return Example(make_doc(words, found), make_doc(words, gold, name))


def score(words: str, gold: Ents, found: Ents, name: str = "") -> ScoredDoc:
    """RETURNS (ScoredDoc): A document of the words."""
    (doc,) = read_examples([make_example(words.split(), gold, found, name)])
    return doc


@st.composite
def ents_st(draw: st.DrawFn, n_tokens: int) -> List[Tuple[int, int, str]]:
    """Entities that do not overlap."""
    bounds = sorted(draw(st.sets(st.integers(0, n_tokens), max_size=8)))
    return [
        (start, end, draw(st.sampled_from(LABELS)))
        for start, end in zip(bounds[::2], bounds[1::2], strict=False)
    ]


@st.composite
def examples_st(draw: st.DrawFn) -> List[Example]:
    """Some documents of few names, in which right and wrong entities are common."""
    examples = []
    for i in range(draw(st.integers(1, 3))):
        n_tokens = draw(st.integers(1, 12))
        words = draw(
            st.lists(st.sampled_from("uvw"), min_size=n_tokens, max_size=n_tokens)
        )
        gold = draw(ents_st(n_tokens))
        found = draw(st.one_of(st.just(gold), ents_st(n_tokens)))
        examples.append(make_example(words, gold, found, f"doc {i}"))
    return examples
