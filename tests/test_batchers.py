import json
import math
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.training import Example
from spacy.util import load_config_from_str, registry
from thinc.api import compounding

from spacy_modernbert.batchers import batch_by_wordpieces_v1, estimate_wordpieces

from .documents.toys import TEXT, toy
from .hub import answer_with


def batches_of(lengths, size, buffer=None):
    """Batches of numbers that stand for documents of those lengths."""
    batcher = batch_by_wordpieces_v1(size, buffer, get_length=lambda item: item[1])
    return [[i for i, _ in batch] for batch in batcher([*enumerate(lengths)])]


lengths_st = st.lists(st.integers(0, 30), max_size=40)


@given(lengths_st, st.integers(1, 40), st.one_of(st.none(), st.integers(1, 50)))
def test_nothing_is_discarded(lengths, size, buffer):
    batches = batches_of(lengths, size, buffer)
    assert sorted(i for batch in batches for i in batch) == [*range(len(lengths))]
    for batch in batches:
        assert batch
        assert len(batch) == 1 or sum(max(1, lengths[i]) for i in batch) <= size


@given(lengths_st, st.integers(1, 40))
def test_in_order_without_a_buffer(lengths, size):
    batches = batches_of(lengths, size)
    assert [i for batch in batches for i in batch] == [*range(len(lengths))]


@given(lengths_st, st.integers(1, 40), st.integers(1, 10))
def test_a_buffer_groups_only_what_it_holds(lengths, size, buffer):
    for batch in batches_of(lengths, size, buffer):
        assert len({i // buffer for i in batch}) == 1
        assert batch == sorted(batch)


def test_literal_batches():
    lengths = [4, 4, 4, 50, 1, 9, 3]
    assert batches_of(lengths, 10) == [[0, 1], [2], [3], [4, 5], [6]]
    assert batches_of(lengths, 10, buffer=7) == [[0, 4, 6], [1, 2], [3], [5]]


def test_all_documents_longer_than_a_batch():
    """spaCy's stock batcher for GPU discards them all, and training never ends."""
    assert batches_of([3000] * 4, 2000) == [[0], [1], [2], [3]]


def test_a_schedule_goes_on_from_epoch_to_epoch():
    batcher = batch_by_wordpieces_v1(compounding(1, 4, 2.0), get_length=lambda item: 1)
    assert [len(batch) for batch in batcher(range(7))] == [1, 2, 4]
    assert [len(batch) for batch in batcher(range(8))] == [4, 4]


def test_a_schedule_that_ends_keeps_its_last_size():
    batcher = batch_by_wordpieces_v1([2, 3], get_length=lambda item: 1)
    assert [len(batch) for batch in batcher(range(11))] == [2, 3, 3, 3]


def test_items_are_read_as_they_are_needed():
    batcher = batch_by_wordpieces_v1(8, get_length=lambda item: 1)
    endless = iter(int, 1)
    assert [len(batch) for batch in islice(batcher(endless), 3)] == [8, 8, 8]


# -- Lengths ------------------------------------------------------------------------


def test_lengths_are_estimated_from_the_text(nlp):
    for text, expected in (
        ("", 0),
        ("a b c", 3),
        ("incomprehensibilities", 6),
        ("東京都", 3),
    ):
        doc = nlp(text)
        assert estimate_wordpieces(doc) == expected
        assert estimate_wordpieces(Example(nlp.make_doc(""), doc)) == expected


def test_lengths_are_counted_by_a_tokenizer(nlp, tmp_path):
    tokenizer = toy("byte_level")
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf8")
    n_pieces = len(tokenizer([TEXT])[0]) + 2
    examples = [Example(nlp(TEXT), nlp(TEXT)) for _ in range(4)]
    for size, expected in ((2 * n_pieces, [2, 2]), (2 * n_pieces - 1, [1] * 4)):
        batcher = batch_by_wordpieces_v1(size, tokenizer=tmp_path)
        assert [len(batch) for batch in batcher(examples)] == expected


def test_documents_of_spacy(nlp):
    docs = [nlp("word " * n) for n in (10, 3000, 20, 30)]
    batcher = batch_by_wordpieces_v1(100)
    assert [[len(doc) for doc in batch] for batch in batcher(docs)] == [
        [10],
        [3000],
        [20, 30],
    ]


# -- Values -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, -1, True, None, "2000", [], [0], ["a"], math.nan, [math.inf], 2.5, 2.0]
)
def test_bad_sizes(size):
    with pytest.raises(ValueError, match="size must be a whole number of wordpieces"):
        batch_by_wordpieces_v1(size)


def test_bad_size_later_in_a_schedule():
    batcher = batch_by_wordpieces_v1([2, -3], get_length=lambda item: 1)
    with pytest.raises(ValueError, match="but it is -3"):
        list(batcher(range(9)))


@pytest.mark.parametrize("buffer", [0, -1, 1.5, True, "256"])
def test_bad_buffers(buffer):
    with pytest.raises(ValueError, match=f"null .* but it is {buffer!r}"):
        batch_by_wordpieces_v1(100, buffer)


def test_bad_length_function():
    with pytest.raises(ValueError, match="get_length must be a function"):
        batch_by_wordpieces_v1(100, get_length=3)


def test_two_ways_of_counting(tmp_path):
    with pytest.raises(ValueError, match="two ways of counting"):
        batch_by_wordpieces_v1(100, tokenizer=tmp_path, get_length=len)


def test_missing_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer at"):
        batch_by_wordpieces_v1(100, tokenizer=tmp_path)
    with pytest.raises(ValueError, match="absent"):
        batch_by_wordpieces_v1(100, tokenizer=tmp_path / "absent")


def test_a_tokenizer_of_the_hub(nlp, tmp_path, monkeypatch):
    """As the recipes for published encoders have it, and without their weights."""
    config = {"model_type": "modernbert", "hidden_size": 8, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = toy("byte_level")
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf8")
    asked = answer_with(tmp_path, monkeypatch)
    batcher = batch_by_wordpieces_v1(100, tokenizer="answerdotai/ModernBERT-base")
    assert batcher.get_length(nlp(TEXT)) == len(tokenizer([TEXT])[0]) + 2
    assert {each.name for each in asked} == {"answerdotai/ModernBERT-base"}
    patterns = {pattern for each in asked for pattern in each.patterns}
    assert patterns == {"config.json", "tokenizer.json"}


# -- Registered -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ("size = 2000", [8, 8, 4]),
        (
            '[batcher.size]\n@schedules = "compounding.v1"\n'
            "start = 100\nstop = 2000\ncompound = 1.001",
            [7, 1, 7, 1, 4],
        ),
    ],
)
def test_registered(nlp, size, wanted):
    """Eight documents at a time, of 13 wordpieces each."""
    config = load_config_from_str(
        f'[batcher]\n@batchers = "spacy-modernbert.batch_by_wordpieces.v1"\n'
        f"buffer = 8\n{size}"
    )
    batcher = registry.resolve(config)["batcher"]
    docs = [nlp("word " * 10) for _ in range(20)]
    assert [len(batch) for batch in batcher(docs)] == wanted
