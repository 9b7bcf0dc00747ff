import json
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser

import pytest
import spacy
from hypothesis import given
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab

from spacy_modernbert.evaluation import highlight
from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.highlight import (
    CLASSES,
    SIGNS,
    describe_match,
    direction,
    language,
    render_doc,
)
from spacy_modernbert.evaluation.matching import Kind

from .toys import NLP, examples_st, make_example, score


class Text(HTMLParser):
    """The text of a document, without what tags say, and its marks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.marks, self.in_tag = "", [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.in_tag |= tag == "small"
        self.text += "\n" * (tag == "br")
        if tag == "mark":
            self.marks.append(json.loads(dict(attrs)["data-m"]))

    def handle_endtag(self, tag):
        self.in_tag &= tag != "small"

    def handle_data(self, data):
        self.text += "" if self.in_tag else data


def visible(html):
    return " ".join(Text(html).text.split())


def test_by_hand():
    doc = score(
        "Ann & Bob <saw> old Port Said .",
        [(0, 1, "PER"), (2, 3, "PER"), (5, 7, "GPE")],
        [(0, 1, "PER"), (2, 3, "GPE"), (4, 6, "GPE"), (3, 4, "A&B")],
    )
    (html,) = render_doc(doc)
    assert visible(html) == doc.doc.text.strip()
    right, wrong, spurious, boundary = Text(html).marks
    assert right == [[CLASSES[Kind.CORRECT], "PER", "PER"]]
    assert wrong == [[CLASSES[Kind.MISLABELLED], "PER", "GPE"]]
    assert spurious == [[CLASSES[Kind.SPURIOUS], "", "A&B"]]
    assert boundary == [[CLASSES[Kind.BOUNDARY], "GPE", "GPE"]]
    # What is found, in brackets; what is true, underlined.
    assert "<i></i>old <u>Port</u><s></s><u> Said</u>" in html
    assert "PER → GPE" in html and f"{SIGNS[Kind.MISLABELLED]}&nbsp;" in html
    assert 'title="boundary; true: Port Said, GPE; found: old Port, GPE"' in html
    assert "A&amp;B" in html and "<saw>" not in html


def test_documents_read_as_their_language_does():
    assert 'class="entities" style="line-height: 2.5; direction: ltr"' in "".join(
        render_doc(score("Ann saw it .", [(0, 1, "PER")], []))
    )
    docs = [Doc(spacy.blank("he").vocab, words=["דן", "ראה", "."]) for _ in range(2)]
    docs[1].ents = [Span(docs[1], 0, 1, "PER")]
    (doc,) = read_examples([Example(*docs)])
    (html,) = render_doc(doc)
    assert "direction: rtl" in html and "direction: ltr" not in html
    assert visible(html) == doc.doc.text.strip()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["(", "1948", ")", "דן", "ראה", "Ann"], "rtl"),
        (["“", "كتب"], "rtl"),
        (["Ann", "ראה"], "ltr"),
        (["1", "2"], "ltr"),
    ],
)
@pytest.mark.parametrize("lang", ["xx", ""])
def test_in_any_language_documents_read_as_they_begin(words, wanted, lang):
    vocab = spacy.blank(lang).vocab if lang else Vocab()
    doc = Doc(vocab, words=words)
    assert (direction(doc), language(doc)) == (wanted, "")


def test_kinds_differ_by_more_than_colour():
    assert len(set(SIGNS.values())) == len(set(CLASSES.values())) == len(Kind)


@given(examples_st())
def test_nothing_is_lost(examples):
    for doc in read_examples(examples):
        html = "".join(render_doc(doc))
        assert visible(html) == " ".join(doc.doc.text.split())
        marked = [tuple(each) for mark in Text(html).marks for each in mark]
        assert sorted(marked) == sorted(map(describe_match, doc.matches))


def test_long_documents_come_in_blocks():
    """They are cut at line ends, of which every other is in an entity."""
    n_lines = 400
    words = ["Ann", "saw", "Said", "\n"] * n_lines
    ents = [(4 * i + 3, 4 * i + 5, "X") for i in range(0, n_lines - 1, 2)]
    (doc,) = read_examples([make_example(words, ents, ents)])
    blocks = render_doc(doc)
    assert len(blocks) > 1
    assert visible("".join(blocks)) == " ".join(doc.doc.text.split())
    assert sum(len(Text(block).marks) for block in blocks) == len(ents)


def test_long_documents_without_line_ends_come_in_blocks():
    """They are cut at spaces, of which every other is in an entity."""
    words = ["Ann", "saw"] * 4000
    ents = [(2 * i, 2 * i + 2, "X") for i in range(4000)]
    (doc,) = read_examples([make_example(words, ents, ents)])
    blocks = render_doc(doc)
    assert len(blocks) > 3
    assert visible("".join(blocks)) == doc.doc.text.strip()
    assert sum(len(Text(block).marks) for block in blocks) == len(ents)


@pytest.mark.parametrize("stop", "。あ")
def test_long_documents_without_spaces_come_in_blocks(stop):
    """They are cut behind sentences or, where there are none, anywhere but in what is
    marked."""
    words = ["文" * 9, "名" * 5, stop] * 4000
    docs = [Doc(NLP.vocab, words=words, spaces=[False] * len(words)) for _ in "ab"]
    for doc in docs:
        doc.ents = [Span(doc, 3 * i, 3 * i + 2, "X") for i in range(4000)]
    (scored,) = read_examples([Example(*docs)])
    blocks = render_doc(scored)
    texts = [visible(block) for block in blocks]
    assert len(blocks) > 5 and "".join(texts) == docs[0].text
    assert sum(len(Text(block).marks) for block in blocks) == 4000
    assert max(map(len, texts)) < 10_000
    if stop == "。":
        assert all(text.endswith(stop) for text in texts)


def test_a_long_document_with_a_space_at_its_end_comes_in_blocks():
    (doc,) = read_examples([make_example(["文" * 50_000, "x"], [], [])])
    assert len(render_doc(doc)) > 5


def test_lines_within_an_entity_are_seen():
    words = ["New", "\n", "York", "\n"]
    (doc,) = read_examples([make_example(words, [(0, 3, "GPE")], [(0, 2, "GPE")])])
    (html,) = render_doc(doc)
    assert "<u> York</u>" in html and html.count("<b></b><br>") == 1
    (doc,) = read_examples([make_example(words, [(0, 3, "GPE")], [(0, 3, "GPE")])])
    (html,) = render_doc(doc)
    assert "New <b></b><br> York<small" in html


def test_blocks_take_no_time_of_each_other(monkeypatch):
    """Each looks at its own entities, and not at all of the document."""
    reads, make = Counter(), highlight._entity

    class Watched(dict):
        def __getitem__(self, key):
            reads[key] += 1
            return super().__getitem__(key)

    monkeypatch.setattr(highlight, "_entity", lambda *given: Watched(make(*given)))
    words = ["Ann", "saw"] * 4000
    ents = [(2 * i, 2 * i + 1, "X") for i in range(4000)]
    (doc,) = read_examples([make_example(words, ents, ents)])
    assert len(render_doc(doc)) > 3
    assert max(reads.values()) <= 3 * len(ents)


def test_a_script_in_a_text_is_text():
    doc = score('</script> <script> "x"', [(0, 2, "PER")], [])
    (html,) = render_doc(doc)
    assert not re.search("<.?script", html)
    assert "</script>" in unescape(html)
