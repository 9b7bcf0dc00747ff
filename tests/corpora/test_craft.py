import pytest

from spacy_modernbert.corpora.craft import LABELS, convert_craft
from spacy_modernbert.corpora.files import decode, load_files

from .util import ARTICLE, raw_corpus


def test_convert(craft_source):
    corpus = convert_craft(craft_source)
    assert [len(docs) for docs in corpus.splits.values()] == [1, 1, 1]
    (doc,) = corpus.splits["dev"]
    assert doc.user_data["id"] == "2"
    assert doc.text == ARTICLE
    assert [(ent.label_, ent.text) for ent in doc.ents] == [
        ("CL", "somatic cells"),
        ("PR", "Pax6−/−"),
    ]
    report = corpus.report.splits["dev"]
    assert (report.annotations, report.expanded) == (4, 1)
    assert report.dropped["discontinuous"] == report.dropped["same span"] == 1


def test_ontology_missing(craft_source):
    for path in (craft_source / "concept-annotation/SO/SO/knowtator").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="concept-annotation/SO/SO/knowtator"):
        convert_craft(craft_source)


def test_annotations_of_an_article_missing(craft_source):
    (craft_source / "concept-annotation/SO/SO/knowtator/2.txt.knowtator.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*SO/knowtator/2\.txt"):
        convert_craft(craft_source)


def test_article_missing(craft_source):
    (craft_source / "articles/txt/3.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"craft .*\['3'\]"):
        convert_craft(craft_source)


def test_article_in_no_split(craft_source):
    (craft_source / "articles/txt/4.txt").write_text("more")
    with pytest.raises(ValueError, match=r"craft .*\['4'\]"):
        convert_craft(craft_source)


def test_article_in_two_splits(craft_source):
    (craft_source / "articles/ids/craft-ids-test.txt").write_text("3\n1\n")
    with pytest.raises(ValueError, match=r"craft .*\['1'\]"):
        convert_craft(craft_source)


def test_counts_of_the_corpus(craft):
    report = craft.report
    counts = {
        name: (split.documents, split.tokens, split.annotations)
        for name, split in report.splits.items()
    }
    assert counts == {
        "train": (60, 485_515, 50_378),
        "dev": (7, 66_820, 7_754),
        "test": (30, 229_658, 24_640),
    }
    # In the order of the labels
    assert {
        name: tuple(split.entities[label] for label in LABELS)
        for name, split in report.splits.items()
    } == {
        "train": (3_986, 3_193, 3_346, 6_652, 13_635, 7_504, 10_069),
        "dev": (327, 541, 530, 678, 2_907, 1_083, 1_428),
        "test": (2_128, 1_565, 1_123, 3_094, 6_312, 3_318, 6_243),
    }
    assert {
        name: (split.expanded, split.enclosed) for name, split in report.splits.items()
    } == {"train": (3_113, 192), "dev": (588, 24), "test": (1_410, 83)}
    assert {
        name: {reason: n for reason, n in split.dropped.items() if n}
        for name, split in report.splits.items()
    } == {
        "train": {
            "duplicate": 165,
            "same span": 383,
            "nested": 943,
            "crossing": 32,
            "discontinuous": 470,
        },
        "dev": {
            "duplicate": 54,
            "same span": 33,
            "nested": 87,
            "crossing": 10,
            "discontinuous": 76,
        },
        "test": {
            "duplicate": 43,
            "same span": 129,
            "nested": 340,
            "crossing": 22,
            "discontinuous": 323,
        },
    }


def test_articles_are_whole(craft):
    raw = load_files(raw_corpus("craft.tar.xz"), ("articles/txt/*.txt",))
    docs = [doc for split in craft.splits.values() for doc in split]
    assert {f"articles/txt/{doc.user_data['id']}.txt" for doc in docs} == set(raw)
    for doc in docs:
        assert doc.text == decode(raw, f"articles/txt/{doc.user_data['id']}.txt")
        assert doc.has_annotation("ENT_IOB", require_complete=True)
        assert all(ent.text == ent.text.strip() for ent in doc.ents)
