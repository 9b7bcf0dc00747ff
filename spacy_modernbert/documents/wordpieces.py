"""Wordpieces of a text.

A Doc is tokenized once, as raw text. What the tokenizer gives for each wordpiece is an
id and a span of characters. Which spaCy tokens it belongs to is read from the
characters (`alignment.align`).
"""

import json
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union
from unicodedata import is_normalized

import numpy as np
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers

from ..errors import Errors
from ..types import Ints

# Texts that any usable tokenizer has wordpieces for. The first that has some
# shows the special wordpieces around it and whether offsets are given at all.
_PROBES = ("a b", "the", "0 1", "你好", "?")
# A hieroglyph, for which hardly any tokenizer has a wordpiece. Not a character for
# private use, which many drop before they look.
_UNKNOWN = "\U00013080"
_TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Wordpieces:
    """The wordpieces of one text, without special ones.

    ids (Ints): `(n,)` int64, wordpiece ids.
    starts, ends (Ints): `(n,)` int32, the characters of the text that each
        wordpiece stands for, without the whitespace at either end. A wordpiece
        that is nothing but whitespace keeps its span.
    raw_starts, raw_ends (Ints): `(n,)` int32, the same with the whitespace.

    Offsets count characters (code points) of the text as given, not as
    normalized. Several wordpieces can have the same span (the bytes of one
    emoji), and spans can overlap.
    """

    ids: Ints
    starts: Ints
    ends: Ints
    raw_starts: Ints
    raw_ends: Ints

    def __len__(self) -> int:
        return int(self.ids.size)


class WordpieceTokenizer:
    """A Hugging Face `tokenizer.json`, as this package uses it.

    It never truncates and never pads, whatever the file says, and it knows no
    maximum length. The names of special wordpieces in a text (`[SEP]`, `[PAD]`
    ...) are text like any other; added tokens that are not special (ModernBERT's
    runs of spaces) work as published.

    tokenizer (tokenizers.Tokenizer): The tokenizer to wrap. It is changed: give
        one that nothing else uses.

    RAISES (ValueError): If the tokenizer finds no wordpieces in plain text, or
        gives no character offsets for them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.prefix_ids, self.suffix_ids = _probe(tokenizer)
        # It fails here, and not in the middle of a corpus, where the wordpiece for what
        # is unknown is not in the vocabulary.
        tokenizer.encode(_UNKNOWN)
        self.special_ids = _special_ids(tokenizer)
        self._byte_values = _byte_values(tokenizer)
        self._byte_lengths = _byte_lengths(tokenizer)

    @classmethod
    def from_file(cls, path: Union[str, Path]) -> "WordpieceTokenizer":
        """Load a `tokenizer.json`.

        path (Union[str, Path]): The file, or the folder that holds it.
        RETURNS (WordpieceTokenizer): The tokenizer.
        RAISES (FileNotFoundError): If there is no such file.
        RAISES (ValueError): If it is not a tokenizer this package can use.
        """
        file = Path(path)
        if file.is_dir():
            file = file / _TOKENIZER_FILE
        if not file.is_file():
            raise FileNotFoundError(Errors.NO_TOKENIZER_FILE.format(path=file))
        try:
            text = file.read_text(encoding="utf8")
        except UnicodeDecodeError as error:
            raise ValueError(
                Errors.BAD_TOKENIZER_JSON.format(source=file, reason=error)
            ) from error
        return cls.from_json(text, source=str(file))

    @classmethod
    def from_json(
        cls,
        text: str,
        source: str = "the text given",
        vocab_size: Optional[int] = None,
    ) -> "WordpieceTokenizer":
        """Make a tokenizer from the text of a `tokenizer.json`.

        text (str): The text.
        source (str): What messages call it.
        vocab_size (Optional[int]): The rows of an encoder's embedding table, which has
            to have a vector for each wordpiece.
        RETURNS (WordpieceTokenizer): The tokenizer.
        RAISES (ValueError): If it is not a tokenizer this package can use, or has more
            wordpieces than the encoder.
        """
        try:
            tokenizer = cls(Tokenizer.from_str(text))
        except ValueError:
            raise
        except Exception as error:  # the Rust side raises bare Exceptions
            raise ValueError(
                Errors.BAD_TOKENIZER_JSON.format(source=source, reason=error)
            ) from error
        if vocab_size is not None and tokenizer.vocab_size > vocab_size:
            raise ValueError(
                Errors.TOKENIZER_TOO_LARGE.format(
                    source=source,
                    largest=tokenizer.vocab_size - 1,
                    vocab_size=vocab_size,
                )
            )
        return tokenizer

    def to_json(self) -> str:
        """RETURNS (str): The text of a `tokenizer.json` that gives this tokenizer."""
        return self._tokenizer.to_str()

    def __reduce__(self) -> Tuple[Any, Tuple[str]]:
        # The Rust object's own state leaves `encode_special_tokens` out.
        return WordpieceTokenizer.from_json, (self.to_json(),)

    @property
    def n_special(self) -> int:
        """RETURNS (int): The special wordpieces around one sequence."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    @cached_property
    def vocab_size(self) -> int:
        """RETURNS (int): One more than the largest wordpiece id: the rows that an
        embedding table needs."""
        known = self._tokenizer.get_vocab(with_added_tokens=True).values()
        # What is put around a text has ids of its own in a `tokenizer.json`.
        return max([*known, *self.prefix_ids, *self.suffix_ids]) + 1

    def __call__(self, texts: Sequence[str]) -> List[Wordpieces]:
        """Tokenize whole texts, in one batch.

        texts (Sequence[str]): The texts, of any length.
        RETURNS (List[Wordpieces]): The wordpieces of each.
        """
        exact: List[int] = []
        others: List[int] = []
        for i, text in enumerate(texts):
            is_exact = self._byte_lengths is not None and is_normalized("NFC", text)
            (exact if is_exact else others).append(i)
        found: Dict[int, Wordpieces] = {}
        for encode, chosen, is_exact in (
            (self._tokenizer.encode_batch_fast, exact, True),
            (self._tokenizer.encode_batch, others, False),
        ):
            encodings = encode([texts[i] for i in chosen], add_special_tokens=False)
            for i, encoding in zip(chosen, encodings, strict=True):
                found[i] = self._wordpieces(texts[i], encoding, is_exact)
        return [found[i] for i in range(len(texts))]

    def ids(self, texts: Sequence[str]) -> List[Ints]:
        """Tokenize whole texts, in one batch, where nobody asks for the places of the
        wordpieces. To find these takes about a fifth as long again.

        texts (Sequence[str]): The texts, of any length.
        RETURNS (List[Ints]): `(n,)` int64 each, the `Wordpieces.ids` of the text.
        """
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids: List[Ints] = [np.array(each.ids, dtype=np.int64) for each in found]
        # To spell special wordpieces out takes their places: see `_spell_special`.
        special = [
            i for i, each in enumerate(ids) if np.isin(each, self.special_ids).any()
        ]
        spelled = self([texts[i] for i in special])
        for i, wordpieces in zip(special, spelled, strict=True):
            ids[i] = wordpieces.ids
        return ids

    def strings(self, ids: Ints) -> List[str]:
        """What the vocabulary calls some wordpieces.

        ids (Ints): `(n,)`, their ids.
        RETURNS (List[str]): Their strings.
        """
        return [self._tokenizer.id_to_token(piece) for piece in ids.tolist()]

    def _wordpieces(self, text: str, encoding: Encoding, is_exact: bool) -> Wordpieces:
        """is_exact (bool): Whether the wordpieces are exactly the bytes of the text, so
        that their offsets can be counted."""
        ids: Ints = np.array(encoding.ids, dtype=np.int64)
        if is_exact:
            assert self._byte_lengths is not None
            spans = _byte_spans(text, self._byte_lengths[ids])
            if spans is None:
                (encoding,) = self._tokenizer.encode_batch(
                    [text], add_special_tokens=False
                )
                return self._wordpieces(text, encoding, False)
            starts, ends = spans
        else:
            offsets: Ints = np.fromiter(
                chain.from_iterable(encoding.offsets), np.int64, count=2 * ids.size
            ).reshape(-1, 2)
            starts, ends = offsets[:, 0], offsets[:, 1]
        ids, starts, ends = self._spell_special(ids, starts, ends, text)
        if self._byte_values:
            starts, ends = _spread_bytes(ids, starts, ends, self._byte_values)
        return trim(text, ids, starts, ends)

    def _spell_special(
        self, ids: Ints, starts: Ints, ends: Ints, text: str
    ) -> Tuple[Ints, Ints, Ints]:
        """Replace special wordpieces that the model found in the text itself.

        `encode_special_tokens` keeps the search for added tokens from finding
        them, but a Unigram model has them in its vocabulary as well. They are
        spelled out instead, a character at a time.
        """
        found = np.flatnonzero(np.isin(ids, self.special_ids))
        if not found.size:
            return ids, starts, ends
        new_ids: List[Ints] = []
        new_starts: List[Ints] = []
        new_ends: List[Ints] = []
        done = 0
        for i in found.tolist():
            spelled = [
                (piece.id, at)
                for at in range(int(starts[i]), int(ends[i]))
                for piece in self._tokenizer.model.tokenize(text[at])
            ]
            spelled_ids = np.array([id for id, _ in spelled], dtype=np.int64)
            spelled_at = np.array([at for _, at in spelled], dtype=np.int64)
            new_ids += [ids[done:i], spelled_ids]
            new_starts += [starts[done:i], spelled_at]
            new_ends += [ends[done:i], spelled_at + 1]
            done = i + 1
        return (
            np.concatenate([*new_ids, ids[done:]]),
            np.concatenate([*new_starts, starts[done:]]),
            np.concatenate([*new_ends, ends[done:]]),
        )


def trim(text: str, ids: Ints, raw_starts: Ints, raw_ends: Ints) -> Wordpieces:
    """Make the wordpieces of a text from the offsets that a tokenizer gave.

    Byte-level tokenizers count the space before a word as part of its first
    wordpiece. That space belongs to the token before, so it is cut off.

    text (str): The text.
    ids (Ints): `(n,)` wordpiece ids.
    raw_starts, raw_ends (Ints): `(n,)` the span of each, in characters.
    RETURNS (Wordpieces): The wordpieces.
    """
    chars = code_points(text)
    raw_starts, raw_ends = _close_gaps(chars, raw_starts, raw_ends)
    # For each position: the first visible character from there on, and one past
    # the last visible character before it.
    n_chars = chars.size
    position = np.arange(n_chars, dtype=np.int64)
    visible = ~is_space(chars)
    next_visible = np.full(n_chars + 1, n_chars, dtype=np.int64)
    next_visible[:-1] = np.minimum.accumulate(
        np.where(visible, position, n_chars)[::-1]
    )[::-1]
    last_visible = np.zeros(n_chars + 1, dtype=np.int64)
    last_visible[1:] = np.maximum.accumulate(np.where(visible, position + 1, 0))
    starts, ends = next_visible[raw_starts], last_visible[raw_ends]
    blank = starts >= ends
    return Wordpieces(
        ids=ids,
        starts=np.where(blank, raw_starts, starts).astype(np.int32),
        ends=np.where(blank, raw_ends, ends).astype(np.int32),
        raw_starts=raw_starts.astype(np.int32),
        raw_ends=raw_ends.astype(np.int32),
    )


def code_points(text: str) -> Ints:
    """RETURNS (Ints): `(len(text),)` uint32, the code points of a text."""
    # Lone surrogates cannot reach a Doc, and are let through here.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def is_space(chars: Ints) -> np.ndarray:
    """RETURNS (ndarray): Of the shape of `chars` (code points), whether
    `str.isspace` holds for each."""
    table = _space_table()
    return table[np.minimum(chars, table.size - 1)]


@lru_cache(maxsize=1)
def _space_table() -> np.ndarray:
    # U+3000 is the last whitespace of Unicode; the row after it stands for all
    # code points beyond.
    return np.array([chr(c).isspace() for c in range(0x3002)])


def _close_gaps(chars: Ints, starts: Ints, ends: Ints) -> Tuple[Ints, Ints]:
    """Give characters that no wordpiece covers to the wordpieces before them.

    A normalizer that composes か + ゛ to が gives the wordpiece the span of か only;
    one that strips accents leaves the accent to none. In languages that spaCy
    segments by character, the second character is a token of its own. It belongs
    to the wordpieces of the first. Whitespace and what Unicode calls Other
    (control characters ...) stay uncovered.
    """
    n_chars = chars.size
    # +1 where a span opens, -1 where it closes: the sum is the spans open.
    opened = np.bincount(starts, minlength=n_chars + 1)
    closed = np.bincount(ends, minlength=n_chars + 1)
    covered = np.cumsum(opened - closed)[:n_chars] > 0
    lost = np.flatnonzero(~covered & ~is_space(chars))
    if not lost.size or not covered.any():
        return starts, ends
    lost = lost[_is_text(chars[lost])]
    covered_at = np.flatnonzero(covered)
    before = np.searchsorted(covered_at, lost) - 1
    # Every span that covers a character before a gap ends with that character.
    new_end = np.arange(n_chars + 1, dtype=np.int64)
    after_one = before >= 0
    # Of several lost characters in one gap, the last is assigned last, and stays.
    new_end[covered_at[before[after_one]] + 1] = lost[after_one] + 1
    # A text that starts with lost characters has none before them.
    new_start = np.arange(n_chars + 1, dtype=np.int64)
    if not after_one.all():
        new_start[covered_at[0]] = lost[0]
    return new_start[starts], new_end[ends]


def _is_text(chars: Ints) -> np.ndarray:
    """Whether code points are of any Unicode category but Other (C...)."""
    kinds, which = np.unique(chars, return_inverse=True)
    is_text = [unicodedata.category(chr(c))[0] != "C" for c in kinds.tolist()]
    return np.array(is_text, dtype=bool)[which]


def _spread_bytes(
    ids: Ints, starts: Ints, ends: Ints, byte_values: Dict[int, int]
) -> Tuple[Ints, Ints]:
    """Give the wordpieces that stand for single bytes the spans of their own
    characters.

    Where a vocabulary falls back to bytes, a Unigram model gives all the bytes
    of a run of unknown characters the span of the whole run. A thousand emoji in
    a row would all own each other's wordpieces.
    """
    is_byte = np.isin(ids, np.fromiter(byte_values, dtype=np.int64))
    at = np.flatnonzero(is_byte & (ends - starts >= 2))
    if not at.size:
        return starts, ends
    same_run = (
        (np.diff(at) == 1) & (np.diff(starts[at]) == 0) & (np.diff(ends[at]) == 0)
    )
    first = np.concatenate([[True], ~same_run])
    last = np.concatenate([~same_run, [True]])
    run = np.cumsum(first) - 1
    values = np.array([byte_values[id] for id in ids[at].tolist()])
    # UTF-8: every byte that does not start with the bits 10 begins a character.
    character = np.cumsum((values & 0xC0) != 0x80)
    character -= character[first][run]
    n_characters = character[last][run] + 1
    # As many characters as the text has there, unless a normalizer changed their
    # number: then they are spread evenly.
    run_start, run_length = starts[at], ends[at] - starts[at]
    starts, ends = starts.copy(), ends.copy()
    starts[at] = run_start + character * run_length // n_characters
    ends[at] = run_start - (-(character + 1) * run_length // n_characters)
    return starts, ends


def _probe(tokenizer: Tokenizer) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    """The ids of the special wordpieces that the tokenizer puts before and after a
    text, read from what it does."""
    for text in _PROBES:
        encoding = tokenizer.encode(text)
        body = [i for i, mark in enumerate(encoding.special_tokens_mask) if not mark]
        if not body:
            continue
        if all(encoding.offsets[i][1] == 0 for i in body):
            raise ValueError(Errors.TOKENIZER_WITHOUT_OFFSETS)
        prefix, suffix = encoding.ids[: body[0]], encoding.ids[body[-1] + 1 :]
        return tuple(prefix), tuple(suffix)
    raise ValueError(Errors.TOKENIZER_WITHOUT_WORDPIECES.format(texts=list(_PROBES)))


def _special_ids(tokenizer: Tokenizer) -> Ints:
    """The ids of the special wordpieces, without the one for unknown text."""
    unknown = _unknown_id(tokenizer)
    added = tokenizer.get_added_tokens_decoder()
    return np.array(
        [id for id, token in added.items() if token.special and id != unknown],
        dtype=np.int64,
    )


def _unknown_id(tokenizer: Tokenizer) -> Optional[int]:
    model = tokenizer.model
    if isinstance(model, models.Unigram):  # only its JSON has it
        return json.loads(tokenizer.to_str())["model"].get("unk_id")
    return None if model.unk_token is None else tokenizer.token_to_id(model.unk_token)


def _byte_values(tokenizer: Tokenizer) -> Dict[int, int]:
    """The value of each wordpiece that stands for a single byte, by its id: empty
    where the vocabulary does not fall back to bytes."""
    ids = {byte: tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
    return {id: byte for byte, id in ids.items() if id is not None}


def _byte_lengths(tokenizer: Tokenizer) -> Optional[Ints]:
    """How many bytes of the text each wordpiece stands for, by its id, where wordpieces
    are just pieces of the text's bytes, as in byte-level BPE. Their offsets can then be
    counted, which is faster than having the tokenizer track them.

    0 for special wordpieces. None for all other tokenizers.
    """
    data = json.loads(tokenizer.to_str())
    model, normalizer = data["model"], data["normalizer"]
    pre_tokenizer = data["pre_tokenizer"] or {}
    added = tokenizer.get_added_tokens_decoder()
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    if (
        model.get("type") != "BPE"
        or model.get("continuing_subword_prefix")
        or model.get("end_of_word_suffix")
        or pre_tokenizer.get("type") != "ByteLevel"
        or pre_tokenizer.get("add_prefix_space")
        or (normalizer is not None and normalizer.get("type") != "NFC")
        or any(t.lstrip or t.rstrip for t in added.values() if not t.special)
        or _trims(data["post_processor"] or {})
    ):
        return None
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    # Ids that leave most numbers out would take memory, and fit no encoder.
    if max(vocab.values()) > 4 * len(vocab) + 1024:
        return None
    lengths = np.zeros(max(vocab.values()) + 1, dtype=np.int64)
    for text, id in vocab.items():
        if id in added:
            lengths[id] = 0 if added[id].special else len(text.encode("utf8"))
        elif alphabet.issuperset(text):
            lengths[id] = len(text)  # a character of the alphabet for each byte
    return lengths


def _trims(post_processor: Mapping[str, Any]) -> bool:
    """RETURNS (bool): Whether the tokenizer's own offsets leave out the space that a
    wordpiece begins with.
    """
    parts = post_processor.get("processors", [post_processor])
    return any(each.get("trim_offsets") for each in parts)


def _byte_spans(text: str, lengths: Ints) -> Optional[Tuple[Ints, Ints]]:
    """The characters that wordpieces stand for, by their lengths in bytes. None if they
    are not those of this text."""
    ends = np.cumsum(lengths)
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    if not lengths.all() or data.size != lengths.sum():
        return None
    starts = ends - lengths
    if data.size == len(text):
        return starts, ends
    # UTF-8: every byte that does not start with the bits 10 begins a character.
    character = np.cumsum((data & 0xC0) != 0x80) - 1
    return character[starts], character[ends - 1] + 1
