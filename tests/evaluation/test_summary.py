import json

from hypothesis import given, settings

from spacy_modernbert.evaluation.documents import read_examples
from spacy_modernbert.evaluation.resampling import Resampling
from spacy_modernbert.evaluation.summary import summarize, summarize_comparison

from .toys import examples_st, score

FEW = Resampling(samples=50)


def test_by_hand():
    docs = [
        score("u v w x", [(0, 1, "A"), (2, 3, "B")], [(0, 1, "A"), (2, 3, "A")], "one"),
        score("u v w x", [(0, 2, "A")], [(1, 2, "A"), (3, 4, "B")], "two"),
    ]
    summary = summarize(docs, FEW)
    assert (summary["documents"], summary["tokens"]) == (2, 8)
    overall = summary["overall"]
    assert (overall["correct"], overall["gold"], overall["found"]) == (1, 3, 4)
    assert overall["f_interval"] == [0.0, 0.5]
    assert list(summary["labels"]) == ["A", "B"]
    assert summary["labels"]["A"]["correct"] == 1
    assert summary["kinds"] == {
        "correct": 1,
        "mislabelled": 1,
        "boundary": 1,
        "mislabelled boundary": 0,
        "missed": 0,
        "spurious": 1,
    }
    assert summary["confusion"] == {"A": {"A": 2}, "B": {"A": 1}, "": {"B": 1}}
    assert [each["id"] for each in summary["per_document"]] == ["one", "two"]
    assert summary["slices"]["seen"] == summary["slices"]["edge"] == []
    assert summary["modes"]["partial"]["partial"] == 1


@settings(max_examples=30)
@given(examples_st())
def test_parts_are_the_whole(examples):
    docs = read_examples(examples)
    summary = summarize(docs, FEW, seen={"u": {"A"}})
    assert json.loads(json.dumps(summary)) == summary
    overall = summary["overall"]
    parts = {
        "labels": summary["labels"].values(),
        "documents": summary["per_document"],
        **{f"slices {name}": summary["slices"][name] for name in ("length", "mention")},
        "seen": summary["slices"]["seen"],
    }
    for name, rows in parts.items():
        for key in ("correct", "gold", "found"):
            assert sum(row[key] for row in rows) == overall[key], name
    n_matches = sum(summary["kinds"].values())
    assert n_matches == sum(len(doc.matches) for doc in docs)
    assert n_matches == sum(sum(row.values()) for row in summary["confusion"].values())


def test_comparison():
    gold = [(0, 1, "A"), (2, 3, "B")]
    docs = [score("u v w x", gold, gold) for _ in range(3)]
    others = [score("u v w x", gold, [(0, 1, "A")]) for _ in range(2)] + docs[:1]
    comparison = summarize_comparison(docs, others, FEW)
    assert comparison["other"]["f"] == 0.8
    assert (comparison["documents_better"], comparison["documents_worse"]) == (2, 0)
    assert comparison["labels"]["A"]["difference"] == 0.0
    assert comparison["labels"]["B"]["difference"] == 0.5
    assert comparison["documents_scored"] == 3
    found = [comparison["labels"]["B"][key] for key in ("found", "other_found")]
    assert found == [3, 1]


def test_the_better_of_two_documents_without_entities():
    """There, F is 0 whatever is found."""
    nothing, something = (score("u v w", [], found) for found in ([], [(0, 1, "A")]))
    comparison = summarize_comparison([nothing, nothing], [something, nothing], FEW)
    assert (comparison["documents_better"], comparison["documents_worse"]) == (1, 0)
