import pytest

from spacy_modernbert.corpora.raw import Annotation, RawDocument


def raw(text: str, *annotations: Annotation) -> RawDocument:
    return RawDocument("d", text, annotations)


def test_annotations_match_their_text():
    raw(
        "ES and somatic\ncells",
        Annotation("CL", ((7, 20),), "somatic cells"),
        Annotation("CL", ((0, 2), (15, 20)), "ES ... cells"),
        Annotation("CL", ((0, 2), (15, 20)), "ES cells"),
    )


@pytest.mark.parametrize("fragment", [(1, 5), (0, 3), (16, 20), (100, 104)])
def test_annotation_of_another_text(fragment):
    with pytest.raises(ValueError, match=r"In document d, .* says 'Anne'"):
        raw("Anne met Mary .", Annotation("PER", (fragment,), "Anne"))


def test_translated_line_ends_are_noticed():
    text = "He came .\nAnne smiled ."
    annotation = Annotation("PER", ((10, 14),), "Anne")
    raw(text, annotation)
    with pytest.raises(ValueError, match="autocrlf"):
        raw(text.replace("\n", "\r\n"), annotation)


@pytest.mark.parametrize(
    "fragments", [(), ((5, 6), (0, 2)), ((-4, -1),), ((-1, 3),), ((0, 2), (6, 5))]
)
def test_fragments_are_there_and_in_order(fragments):
    with pytest.raises(ValueError, match="character spans"):
        Annotation("PER", fragments, "Anne")
