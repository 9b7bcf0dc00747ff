import copy
import json
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from spacy_modernbert.documents.alignment import align
from spacy_modernbert.documents.wordpieces import (
    WordpieceTokenizer,
    is_space,
)

from ..util import PUBLISHED, pickled
from .toys import (
    TEXT,
    bert,
    byte_level,
    check_alignment,
    may_be_uncovered,
    slow_trim,
    spans,
    texts,
    toy,
)

# -- The published tokenizer ----------------------------------------------------


def test_known_ids(published):
    known = json.loads((PUBLISHED / "known_ids.json").read_text(encoding="utf8"))
    assert len(known) == 25
    special = ("[CLS]", "[SEP]", "[MASK]", "<|endoftext|>", "<|padding|>")
    differ = []
    for text, expected in known:
        (wordpieces,) = published([text])
        ids = [*published.prefix_ids, *wordpieces.ids.tolist(), *published.suffix_ids]
        if ids != expected:
            differ.append(text)
            # The names of special tokens are text here, and come back as such.
            tokenizer = Tokenizer.from_file(str(PUBLISHED / "tokenizer.json"))
            assert tokenizer.encode(text).ids == expected
            assert tokenizer.decode(ids[1:-1], skip_special_tokens=True) == text
    assert differ == [text for text, _ in known if any(s in text for s in special)]


def test_published_facts(published):
    assert published.prefix_ids == (50281,)
    assert published.suffix_ids == (50282,)
    assert published.n_special == 2
    assert published.vocab_size == 50368


# -- Special tokens --------------------------------------------------------------


@pytest.mark.parametrize("name", ["[SEP]", "[PAD]", "[CLS]", "[MASK]", "[UNK]"])
def test_names_of_special_tokens_are_text(tokenizer, name):
    text = f"in {name}, the  {name}{name}"
    (wordpieces,) = tokenizer([text])
    special = {*tokenizer.prefix_ids, *tokenizer.suffix_ids}
    assert not special & set(wordpieces.ids.tolist())
    starts, ends = np.array([3]), np.array([3 + len(name)])
    assert align(wordpieces, starts, ends).lengths[0] >= 2


@pytest.mark.parametrize("text", ["</s>", "a </s> b", "</s></s>the", "<s>", "x<s"])
def test_special_tokens_that_the_model_knows_are_spelled_out(text):
    tokenizer = toy("unigram")
    raw = Tokenizer.from_str(tokenizer.to_json())
    raw.encode_special_tokens = True
    (wordpieces,) = tokenizer([text])
    special = {*tokenizer.prefix_ids, *tokenizer.suffix_ids}
    assert not special & set(wordpieces.ids.tolist())
    if "s>" in text:
        assert special & set(raw.encode(text, add_special_tokens=False).ids)
    decoded = "".join(raw.id_to_token(id) for id in wordpieces.ids.tolist())
    for byte in "<>x":
        decoded = decoded.replace(f"<0x{ord(byte):02X}>", byte)
    assert decoded.replace("<0x2F>", "/").replace("▁", " ") == f" {text}"
    check_alignment(text, wordpieces, [(i, i + 1) for i in range(len(text))])


def test_a_word_that_is_unknown_is_not_spelled_out():
    """Though what stands for it is a special token, too."""
    tokenizer = toy("bert")
    (wordpieces,) = tokenizer(["the ψψψ"])
    assert tokenizer.strings(wordpieces.ids) == ["the", "[UNK]"]
    assert spans(wordpieces.starts, wordpieces.ends) == [(0, 3), (4, 7)]


def test_runs_of_spaces_are_added_tokens():
    (wordpieces,) = toy("byte_level")(["the    the"])
    at = spans(wordpieces.starts, wordpieces.ends).index((3, 7))
    assert wordpieces.raw_starts[at] == 3


def test_special_tokens_around_a_text(tokenizer):
    raw = Tokenizer.from_str(tokenizer.to_json())
    raw.encode_special_tokens = True
    (wordpieces,) = tokenizer([TEXT])
    ids = [*tokenizer.prefix_ids, *wordpieces.ids.tolist(), *tokenizer.suffix_ids]
    assert raw.encode(TEXT).ids == ids


def test_strings():
    tokenizer = toy("byte_level")
    (wordpieces,) = tokenizer(["the  [SEP]"])
    assert tokenizer.strings(np.array(tokenizer.suffix_ids)) == ["[SEP]"]
    strings = tokenizer.strings(wordpieces.ids)
    assert "".join(strings) == "the  [SEP]"


# -- Offsets ----------------------------------------------------------------------


def test_spaces_are_trimmed_from_offsets():
    text = "that the  the"
    (wordpieces,) = toy("byte_level")([text])
    at = spans(wordpieces.raw_starts, wordpieces.raw_ends).index((4, 8))
    assert wordpieces.starts[at] == 5
    assert wordpieces.ends[at] == 8
    # Whitespace keeps its span.
    at = spans(wordpieces.raw_starts, wordpieces.raw_ends).index((8, 10))
    assert wordpieces.starts[at] == 8
    assert wordpieces.ends[at] == 10


def test_a_text_that_starts_with_what_is_stripped():
    (wordpieces,) = toy("bert")(["\u0301the"])
    assert wordpieces.starts[0] == 0


def test_is_space_is_that_of_str():
    chars = np.arange(0x110000, dtype=np.uint32)
    assert np.flatnonzero(is_space(chars)).tolist() == [
        c for c in range(0x110000) if chr(c).isspace()
    ]


@given(texts)
def test_offsets_cover_the_text(tokenizer, text):
    (wordpieces,) = tokenizer([text])
    raw = spans(wordpieces.raw_starts, wordpieces.raw_ends)
    assert [slow_trim(text, *span) for span in raw] == spans(
        wordpieces.starts, wordpieces.ends
    )
    assert all(0 <= a <= b <= len(text) for a, b in raw)
    covered = set().union(*(range(a, b) for a, b in raw))
    left_out = "".join(c for i, c in enumerate(text) if i not in covered)
    assert not raw or may_be_uncovered(left_out)


@given(texts)
def test_batched_is_one_by_one(tokenizer, text):
    several = tokenizer([text, "", "the", text])
    for at, single in enumerate((text, "", "the", text)):
        (alone,) = tokenizer([single])
        assert alone.ids.tolist() == several[at].ids.tolist()
        assert alone.starts.tolist() == several[at].starts.tolist()


def test_empty_batch(tokenizer):
    assert tokenizer([]) == tokenizer.ids([]) == []


@given(st.lists(texts, max_size=4))
@example(["a<s>a</s>", "the london", "</s>", "", "[SEP] the [MASK]"])
def test_ids_without_places_are_those_with_places(tokenizer, batch):
    for ids, wordpieces in zip(tokenizer.ids(batch), tokenizer(batch), strict=True):
        np.testing.assert_array_equal(ids, wordpieces.ids)


# -- Byte fallback ------------------------------------------------------------------

UNKNOWN = "é東😀🎉"


@pytest.mark.parametrize("name", ["unigram", "sentencepiece_bpe"])
@given(st.text("the " + UNKNOWN, max_size=30))
@example("the 😀😀é東 the🎉🎉🎉the é")
def test_bytes_have_the_places_of_their_characters(name, text):
    """Also in runs of characters that a vocabulary does not have, to all of whose bytes
    a Unigram model gives the place of the run.
    """
    tokenizer = toy(name)
    (wordpieces,) = tokenizer([text])
    found = [b""] * len(text)
    pieces = tokenizer.strings(wordpieces.ids)
    places = spans(wordpieces.raw_starts, wordpieces.raw_ends)
    for piece, (start, end) in zip(pieces, places, strict=True):
        if byte := re.fullmatch("<0x(..)>", piece):
            assert end == start + 1
            found[start] += bytes.fromhex(byte[1])
    assert found == [each.encode() if each in UNKNOWN else b"" for each in text]


def test_bytes_of_a_character_that_is_written_out():
    """NFKC makes 18 characters of it: there are more bytes than are in the text."""
    (wordpieces,) = toy("unigram")(["the 😀\ufdfa the"])
    places = spans(wordpieces.raw_starts, wordpieces.raw_ends)
    run = [place for place in places if place[0] >= 4 and place[1] <= 6]
    assert len(run) > 30
    assert run == sorted(run)
    assert run[:4] == [(4, 5)] * 4 and run[-1] == (5, 6)


# -- The tokenizer's file -----------------------------------------------------------


@pytest.mark.parametrize("copied_by", [copy.deepcopy, pickled])
def test_copies_are_the_same(tokenizer, copied_by):
    copied = copied_by(tokenizer)
    assert copied.to_json() == tokenizer.to_json()
    assert copied.prefix_ids == tokenizer.prefix_ids
    text = TEXT + " [SEP]"
    assert copied([text])[0].ids.tolist() == tokenizer([text])[0].ids.tolist()


def test_json_round_trip(tmp_path, tokenizer):
    file = tmp_path / "tokenizer.json"
    file.write_text(tokenizer.to_json(), encoding="utf8")
    for loaded in (
        WordpieceTokenizer.from_file(file),
        WordpieceTokenizer.from_file(tmp_path),
        WordpieceTokenizer.from_file(str(tmp_path)),
        WordpieceTokenizer.from_json(tokenizer.to_json()),
    ):
        assert loaded.to_json() == tokenizer.to_json()
        assert loaded.vocab_size == tokenizer.vocab_size


def test_nothing_is_truncated_or_padded():
    raw = byte_level()
    raw.enable_truncation(max_length=8)
    raw.enable_padding(length=64, pad_id=raw.token_to_id("[PAD]"), pad_token="[PAD]")
    limited = WordpieceTokenizer.from_json(raw.to_str())
    expected = toy("byte_level")([TEXT, "the"])
    for got, want in zip(limited([TEXT, "the"]), expected, strict=True):
        assert got.ids.tolist() == want.ids.tolist()
    assert limited.prefix_ids == toy("byte_level").prefix_ids


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*tokenizer\.json"):
        WordpieceTokenizer.from_file(tmp_path)


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff\xfe\x00"])
def test_bad_file(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer\.json"):
        WordpieceTokenizer.from_file(file)


def test_bad_json():
    with pytest.raises(ValueError, match="the text given is not a tokenizer"):
        WordpieceTokenizer.from_json("{}")


def test_a_tokenizer_that_cannot_tokenize():
    """It has no wordpiece for what it does not know."""
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    with pytest.raises(ValueError, match=r"the file is not a tokenizer.*UNK"):
        WordpieceTokenizer.from_json(words.to_str(), source="the file")


def test_a_tokenizer_that_knows_plain_text_only():
    """It has no wordpiece for what it does not know, either, but finds all of English
    in its vocabulary.
    """
    data = json.loads(bert().to_str())
    del data["model"]["vocab"]["[UNK]"]
    data["added_tokens"] = [
        token for token in data["added_tokens"] if token["content"] != "[UNK]"
    ]
    raw = Tokenizer.from_str(json.dumps(data))
    assert raw.encode("the").ids
    with pytest.raises(ValueError, match=r"the file is not a tokenizer.*\[UNK\]"):
        WordpieceTokenizer.from_json(raw.to_str(), source="the file")


def test_tokenizer_without_wordpieces():
    empty = Tokenizer(models.BPE())
    with pytest.raises(ValueError, match="finds no wordpieces"):
        WordpieceTokenizer(empty)


def test_tokenizer_without_offsets(monkeypatch):
    class Encoding:
        ids = [1, 7, 8, 2]
        offsets = [(0, 0)] * 4
        special_tokens_mask = [1, 0, 0, 1]

    class WithoutOffsets:
        def encode(self, text):
            return Encoding()

        def no_truncation(self):
            pass

        no_padding = no_truncation

    with pytest.raises(ValueError, match="gives no character offsets"):
        WordpieceTokenizer(WithoutOffsets())


def test_tokenizer_without_special_tokens():
    raw = Tokenizer(models.WordLevel({"the": 0, "?": 1}, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = WordpieceTokenizer(raw)
    assert tokenizer.prefix_ids == tokenizer.suffix_ids == ()
    assert tokenizer.n_special == 0
    assert tokenizer.vocab_size == 2


# -- Byte-level BPE: places are counted ---------------------------------------------


def followed(tokenizer, texts):
    """RETURNS (List[Wordpieces]): By the offsets that the tokenizers library gives."""
    other = WordpieceTokenizer.from_json(tokenizer.to_json())
    other._byte_lengths = None
    return other(texts)


@given(st.lists(texts, max_size=4))
@example(["a😀b", "\u00e9e", "か", "", "   x  ", "[SEP] [CLS]"])
@example(["naïve 東京\u200d\n\n\t", "👩👩👧"])
@example(["e\u0301 is composed"])
def test_counted_as_followed(batch):
    tokenizer = toy("byte_level")
    for found, wanted in zip(tokenizer(batch), followed(tokenizer, batch), strict=True):
        for name in ("ids", "starts", "ends", "raw_starts", "raw_ends"):
            assert getattr(found, name).tolist() == getattr(wanted, name).tolist(), name


def test_only_bytes_are_counted(tokenizer):
    data = json.loads(tokenizer.to_json())
    pre_tokenizer = data["pre_tokenizer"] or {}
    is_byte_level = pre_tokenizer.get("type") == "ByteLevel"
    assert (tokenizer._byte_lengths is not None) == is_byte_level


@pytest.mark.parametrize("in_sequence", [False, True])
def test_a_tokenizer_that_leaves_spaces_out_of_its_places(in_sequence):
    """What it finds in a text does not depend on the texts beside it."""
    trimming = processors.ByteLevel(trim_offsets=True)
    plain = byte_level()
    plain.post_processor = (
        processors.Sequence([trimming, plain.post_processor])
        if in_sequence
        else trimming
    )
    tokenizer = WordpieceTokenizer(plain)
    (alone,) = tokenizer(["in  London"])
    beside, _ = tokenizer(["in  London", "e\u0301"])
    for name in ("ids", "starts", "ends", "raw_starts", "raw_ends"):
        assert getattr(alone, name).tolist() == getattr(beside, name).tolist(), name


class Watched:
    """Passes all on to a tokenizer, and keeps the texts whose places it follows."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.followed = []

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def encode_batch(self, texts, **settings):
        self.followed += texts
        return self.tokenizer.encode_batch(texts, **settings)


def test_places_are_counted_beside_those_that_are_followed():
    """Which takes several times as long."""
    tokenizer = WordpieceTokenizer(byte_level())
    texts = ["in Oslo", "e\u0301t\u0301e\u0301", "", "in London", "a\u0301"]
    alone = [tokenizer([text])[0] for text in texts]
    tokenizer._tokenizer = watched = Watched(tokenizer._tokenizer)
    for found, wanted in zip(tokenizer(texts), alone, strict=True):
        assert found.ids.tolist() == wanted.ids.tolist()
        assert found.raw_starts.tolist() == wanted.raw_starts.tolist()
    assert watched.followed == [texts[1], texts[4]]


def test_places_that_cannot_be_counted_are_followed():
    """Should the lengths not add up to the text, the tokenizer is asked."""
    tokenizer = WordpieceTokenizer(byte_level())
    text = "a text"
    (wanted,) = tokenizer([text])
    tokenizer._byte_lengths = tokenizer._byte_lengths + 1
    (found,) = tokenizer([text])
    assert found.raw_starts.tolist() == wanted.raw_starts.tolist()


def test_ids_that_leave_out_billions():
    """No memory is taken for them: no encoder has so many vectors."""
    data = json.loads(byte_level().to_str())
    vocab = data["model"]["vocab"]
    # One that no merge makes.
    vocab["Ġ"] = 2**32 - 1
    assert WordpieceTokenizer.from_json(json.dumps(data)).vocab_size == 2**32
    with pytest.raises(ValueError, match=r"^a file has .* up to 4294967295"):
        WordpieceTokenizer.from_json(json.dumps(data), "a file", 400)


def test_special_ids_that_are_in_no_vocabulary():
    data = json.loads(byte_level().to_str())
    special = data["post_processor"]["special_tokens"]["[SEP]"]
    special["ids"] = [4000]
    assert WordpieceTokenizer.from_json(json.dumps(data)).suffix_ids == (4000,)
    with pytest.raises(ValueError, match=r"^a file has .* up to 4000\b"):
        WordpieceTokenizer.from_json(json.dumps(data), "a file", 400)
