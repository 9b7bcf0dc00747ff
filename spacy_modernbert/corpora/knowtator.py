"""The XML of Knowtator, as CRAFT has it: a file for a document and an ontology.

    <annotations textSource="11319941.txt">
      <annotation>
        <mention id="CL_basic_2014_02_21_Instance_12805" />
        <span start="975" end="981" />
        <spannedText>neuron</spannedText>
      </annotation>
      ...

Offsets count characters. A mention in pieces has a `span` for each, in any order,
and `spannedText` joins them with ` ... `.
"""

from typing import List, NoReturn, Optional
from xml.etree import ElementTree

from ..errors import Errors
from .raw import Annotation


def parse_knowtator(content: bytes, label: str, path: str) -> List[Annotation]:
    """Read the mentions of a file. Which concept of the ontology a mention
    stands for is passed over: the label is the ontology.

    content (bytes): The file; its XML declaration names the encoding.
    label (str): The label of all mentions in it.
    path (str): Its name, for the message of an error.
    RETURNS (List[Annotation]): In the order of the file.
    RAISES (ValueError): If the XML is broken or in an unknown encoding, has a document
        type, or lacks a span.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype(path))
    try:
        parser.feed(content)
        root = parser.close()
    except (ElementTree.ParseError, LookupError) as error:  # no such encoding
        raise ValueError(
            Errors.CORPUS_BAD_XML.format(path=path, error=error)
        ) from error
    return [
        _annotation(element, label, path) for element in root.iterfind("annotation")
    ]


def _annotation(element: ElementTree.Element, label: str, path: str) -> Annotation:
    try:
        fragments = sorted(
            (int(span.attrib["start"]), int(span.attrib["end"]))
            for span in element.iterfind("span")
        )
        return Annotation(label, tuple(fragments), element.findtext("spannedText", ""))
    except (KeyError, ValueError) as error:
        content = ElementTree.tostring(element, encoding="unicode")
        raise ValueError(
            Errors.CORPUS_BAD_ANNOTATION.format(path=path, content=content, error=error)
        ) from error


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, and with it entities that expand without end and
    definitions from elsewhere. Knowtator writes none."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def doctype(
        self, name: str, pubid: Optional[str], system: Optional[str]
    ) -> NoReturn:
        raise ValueError(Errors.CORPUS_DOCTYPE.format(path=self.path, name=name))
