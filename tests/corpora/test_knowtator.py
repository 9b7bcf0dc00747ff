import pytest

from spacy_modernbert.corpora.knowtator import parse_knowtator
from spacy_modernbert.corpora.raw import Annotation

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def annotation(spans: str, text: str) -> str:
    return (
        f'<annotation><mention id="i_1" /><annotator id="a">Somebody</annotator>'
        f"{spans}<spannedText>{text}</spannedText></annotation>"
    )


def document(*annotations: str, head: str = HEAD) -> bytes:
    mentions = '<classMention id="i_1"><mentionClass id="CL:1">x</mentionClass>'
    inner = "\n".join(annotations)
    return (
        f'{head}<annotations textSource="1.txt">{inner}{mentions}'
        "</classMention></annotations>"
    ).encode()


def parse(content: bytes):
    return parse_knowtator(content, "CL", "CL/1.xml")


def test_mentions():
    content = document(
        annotation('<span start="975" end="981" />', "neuron"),
        annotation('<span start="0" end="4" />', "cell"),
    )
    assert parse(content) == [
        Annotation("CL", ((975, 981),), "neuron"),
        Annotation("CL", ((0, 4),), "cell"),
    ]


def test_no_mentions():
    assert parse(document()) == []


def test_pieces_in_any_order():
    content = document(
        annotation('<span start="15" end="20"/><span start="0" end="2"/>', "ES ... x")
    )
    assert parse(content)[0].fragments == ((0, 2), (15, 20))


def test_escapes_and_line_ends():
    content = document(
        annotation('<span start="0" end="9" />', "A&amp;B &lt;&#945;&#x3b2;&gt;")
    ).replace(b"\n", b"\r\n")
    assert parse(content)[0].text == "A&B <αβ>"


def test_declared_encoding_is_obeyed():
    head = HEAD.replace("UTF-8", "ISO-8859-1")
    content = document(annotation('<span start="0" end="1" />', "µ"), head=head)
    content = content.decode("utf-8").encode("latin-1")
    assert parse(content)[0].text == "µ"


def test_document_type_is_refused():
    bomb = HEAD + '<!DOCTYPE annotations [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    content = document(annotation('<span start="0" end="1" />', "&b;"), head=bomb)
    with pytest.raises(ValueError, match=r"CL/1\.xml .* document type 'annotations'"):
        parse(content)


def test_document_type_is_refused_in_any_encoding():
    head = HEAD.replace("UTF-8", "UTF-16") + '<!DOCTYPE x SYSTEM "file:///etc/passwd">'
    with pytest.raises(ValueError, match="document type"):
        parse(document(head=head).decode("utf-8").encode("utf-16"))


def test_broken_xml():
    with pytest.raises(ValueError, match=r"CL/1\.xml .* not valid XML"):
        parse(document()[:-5])


@pytest.mark.parametrize("encoding", ["nonsense", "base64"])
def test_an_encoding_that_is_unknown(encoding):
    with pytest.raises(ValueError, match=r"CL/1\.xml .* not valid XML: .*encoding"):
        parse(document(head=HEAD.replace("UTF-8", encoding)))


@pytest.mark.parametrize(
    "spans",
    [
        "",
        '<span start="1" />',
        '<span start="one" end="2" />',
        '<span start="-6" end="-1" />',
        '<span start="6" end="1" />',
    ],
    ids=["none", "no end", "no number", "negative", "backwards"],
)
def test_broken_span(spans):
    with pytest.raises(ValueError, match=r"annotation in CL/1\.xml"):
        parse(document(annotation(spans, "cell")))
