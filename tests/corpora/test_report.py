from dataclasses import replace

import pytest

from spacy_modernbert.corpora.report import ConversionReport, SplitReport

REPORT = SplitReport(
    documents=2,
    tokens=1000,
    annotations=8,
    entities={"PER": 4, "LOC": 1},
    expanded=1,
    enclosed=0,
    dropped={"nested": 3, "crossing": 0},
)


@pytest.mark.parametrize("annotations", [7, 9])
def test_every_annotation_is_counted(annotations):
    with pytest.raises(ValueError, match=f"{annotations} annotations .* but 8"):
        replace(REPORT, annotations=annotations)


def test_total():
    small = replace(REPORT, annotations=1, entities={"PER": 1, "LOC": 0}, dropped={})
    total = ConversionReport("x", {"train": REPORT, "dev": small}).total
    assert total == SplitReport(
        documents=4,
        tokens=2000,
        annotations=9,
        entities={"PER": 5, "LOC": 1},
        expanded=2,
        enclosed=0,
        dropped={"nested": 3, "crossing": 0},
    )


def test_total_of_one_split():
    assert ConversionReport("x", {"train": REPORT}).total == REPORT


def test_table():
    header, rows = ConversionReport("x", {"train": REPORT, "dev": REPORT}).table()
    assert header == ["x", "train", "dev", "total"]
    assert rows == [
        ["documents", "2", "2", "4"],
        ["tokens", "1,000", "1,000", "2,000"],
        ["annotations", "8", "8", "16"],
        ["entities", "5", "5", "10"],
        ["  PER", "4", "4", "8"],
        ["  LOC", "1", "1", "2"],
        ["  expanded to tokens", "1", "1", "2"],
        ["  enclosing pieces", "0", "0", "0"],
        ["dropped", "3", "3", "6"],
        ["  nested", "3", "3", "6"],
        ["  crossing", "0", "0", "0"],
    ]


def test_table_where_nothing_is_lost():
    report = replace(REPORT, annotations=5, dropped={"nested": 0}, expanded=0)
    _, rows = ConversionReport("x", {"train": report}).table()
    assert [name for name, *_ in rows[-2:]] == ["  LOC", "dropped"]
    changed = replace(report, expanded=1)
    _, rows = ConversionReport("x", {"train": report, "dev": changed}).table()
    assert rows[-2:] == [
        ["  expanded to tokens", "0", "1", "1"],
        ["dropped", "0", "0", "0"],
    ]
