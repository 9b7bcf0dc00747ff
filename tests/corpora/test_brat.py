import pytest

from spacy_modernbert.corpora.brat import parse_brat
from spacy_modernbert.corpora.raw import Annotation


def test_entities():
    content = "T1\tFAC 33 46\tKellynch Hall\nT2\tPER 0 4\tAnne\n"
    assert parse_brat(content, "a.ann") == [
        Annotation("FAC", ((33, 46),), "Kellynch Hall"),
        Annotation("PER", ((0, 4),), "Anne"),
    ]


def test_empty_file():
    assert parse_brat("", "a.ann") == []


def test_windows_line_ends():
    content = "T1\tPER 0 4\tAnne\r\nT2\tPER 5 9\tMary\r\n"
    assert [a.text for a in parse_brat(content, "a.ann")] == ["Anne", "Mary"]


def test_byte_order_mark():
    content = "\ufeffT1\tPER 0 4\tAnne\nT2\tPER 5 9\tMary\n"
    assert [a.text for a in parse_brat(content, "a.ann")] == ["Anne", "Mary"]


def test_pieces_in_any_order():
    (annotation,) = parse_brat("T1\tPER 9 12;0 3\tOld Tom\n", "a.ann")
    assert annotation.fragments == ((0, 3), (9, 12))
    assert (annotation.start, annotation.end) == (0, 12)
    assert annotation.is_discontinuous


def test_text_with_tabs_separators_and_semicolons():
    content = "T1\tPER 0 9\ta\tb;\u2028c\x0cd\n"
    assert parse_brat(content, "a.ann")[0].text == "a\tb;\u2028c\x0cd"


def test_lines_that_are_no_entities():
    content = (
        "T1\tPER 0 4\tAnne\n"
        "R1\tknows Arg1:T1 Arg2:T1\n"
        "E1\tMarriage:T1 Who:T1\n"
        "A1\tGeneric T1\n"
        "*\tEquiv T1 T1\n"
        "#1\tAnnotatorNotes T1\tT2\tPER 0 4\n"
        "\n"
    )
    assert len(parse_brat(content, "a.ann")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "T1",
        "T1 PER 0 4 Anne",
        "T1\tPER 0\tAnne",
        "T1\tPER 0 4",
        "T1\tPER 0 4;\tAnne",
        "T1\tPER -1 4\tAnne",
        "T1\t0 4\tAnne",
    ],
)
def test_broken_line(line):
    with pytest.raises(ValueError, match=r"Line 2 of x/a\.ann"):
        parse_brat(f"T0\tPER 0 4\tAnne\n{line}\n", "x/a.ann")
