"""Small tokenizers of every family, and slow, obvious versions of what the package
does fast."""

import unicodedata
from functools import cache
from typing import List, Sequence, Set, Tuple

import numpy as np
import pytest
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from spacy_modernbert.documents.alignment import Alignment, align
from spacy_modernbert.documents.wordpieces import Wordpieces, WordpieceTokenizer
from spacy_modernbert.types import Ints

from ..util import PUBLISHED, SPECIAL

TEXT = """My father's eyes had closed upon the light of this world six months, when
mine opened on it. There is something strange to me, even now, in the reflection
that he never saw me; and something stranger yet in the shadowy remembrance that I
have of my first childish associations with his white grave-stone in the churchyard.

    Betsey Trotwood, or Miss Betsey, as my poor mother always called her, came to
    London in 1849. "Mr. Copperfield?" she said... (Naïve café; 東京 — Москва.)
"""


def _template(tokenizer: Tokenizer, first: str, last: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (first, last)],
    )


def byte_level() -> Tokenizer:
    """Byte-level BPE as ModernBERT has it: NFC, spaces inside offsets, runs of
    spaces as added tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in (8, 4, 3, 2)])
    specials = [AddedToken(token, special=True) for token in SPECIAL[:-1]]
    specials.append(AddedToken("[MASK]", special=True, lstrip=True))
    tokenizer.add_special_tokens(specials)
    _template(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def bert() -> Tokenizer:
    """WordPiece that lower-cases, strips accents and drops control characters."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    _template(tokenizer, "[CLS]", "[SEP]")
    return tokenizer


def _bytes() -> List[str]:
    return [f"<0x{byte:02X}>" for byte in range(256)]


def unigram() -> Tokenizer:
    """SentencePiece Unigram: NFKC, byte fallback, special tokens that the model
    itself knows."""
    pieces = ["the", "▁the", "▁", "ing", "▁London", "</", "s>", *"abcdehilmnorstu"]
    vocab = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    vocab += [(piece, -3.0 - 1 / len(piece)) for piece in pieces]
    vocab += [(byte, -20.0) for byte in _bytes()]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    _template(tokenizer, "<s>", "</s>")
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """SentencePiece BPE with byte fallback, as in Llama and Gemma."""
    pieces = ["<unk>", "<s>", "▁", "t", "h", "e", "▁t", "▁th", "▁the", *_bytes()]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: id for id, piece in enumerate(pieces)},
            [("▁", "t"), ("▁t", "h"), ("▁th", "e")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    return tokenizer


FAMILIES = {
    "byte_level": byte_level,
    "bert": bert,
    "unigram": unigram,
    "sentencepiece_bpe": sentencepiece_bpe,
}
NAMES = [*FAMILIES, "published"]


@cache
def toy(name: str) -> WordpieceTokenizer:
    """RETURNS (WordpieceTokenizer): One of `NAMES`. Without the published one, a test
    that asks for it is skipped.
    """
    if name == "published":
        if not PUBLISHED.is_dir():
            pytest.skip("the published tokenizer is not in ../shared")
        return WordpieceTokenizer.from_file(PUBLISHED)
    return WordpieceTokenizer(FAMILIES[name]())


# -- Texts --------------------------------------------------------------------

FRAGMENTS = [
    *("the", " ", "  ", "       ", "\n", "\n\n", "\r\n", "\t", " London", "Mr.", "."),
    *("[SEP]", "[PAD]", " [MASK]", "<s>", "</s>", "<unk>", "[UNK]", "<0x41>"),
    *("👩\u200d👩\u200d👧\u200d👦", "👍🏽", "🇫🇷", "☺\ufe0f", "🂡", "\ue000"),
    *("e\u0301", "\u0301", "か\u3099", "ｶﾞ", "\u1112\u1161\u11ab", "ﬁ", "\ufdfa"),
    *("שלום", "مرحبا", "नमस्ते", "東京都", "ไทย", "\u202e", "\u200b", "\u200d", "\ufeff"),
    *("\x00", "\x01", "\x7f", "\x85", "\u2028", "\u3000", "\xa0", "\u0344", "=\u0338"),
]

characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(characters, max_size=3)),
    max_size=30,
).map("".join)


def token_spans(text: str, draw) -> List[Tuple[int, int]]:
    """Divide a text into tokens as spaCy might: anywhere, but with a single space
    after a token left out, or not."""
    spans = []
    at = 0
    while at < len(text):
        end = draw(st.integers(at + 1, min(at + 5, len(text))))
        spans.append((at, end))
        at = end
        if text[at : at + 1] == " " and draw(st.booleans()):
            at += 1
    return spans


# -- Alignments ---------------------------------------------------------------


def alignment_of(ranges: Sequence[Tuple[int, int]]) -> Alignment:
    """RETURNS (Alignment): Of tokens with these ranges of wordpieces."""
    starts, ends = np.array(ranges, dtype=np.int32).reshape(-1, 2).T
    return Alignment(starts, ends)


def one_each(n: int) -> Alignment:
    """RETURNS (Alignment): One in which token i is wordpiece i."""
    return Alignment(np.arange(n, dtype=np.int32), np.arange(1, n + 1, dtype=np.int32))


def no_breaks(n: int) -> Ints:
    """RETURNS (Ints): That after none of n tokens a sentence or a paragraph ends."""
    return np.zeros(n, dtype=np.int8)


@st.composite
def alignments(draw):
    """Alignments as tokenizers give them: tokens with no wordpieces, with one that
    they share, with far too many; wordpieces that no token owns."""
    ranges = []
    end = draw(st.integers(0, 2))
    for _ in range(draw(st.integers(0, 40))):
        start = end + draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
        if ranges and ranges[-1][0] < ranges[-1][1] and draw(st.integers(0, 3)) == 0:
            start = end - 1  # the last wordpiece of the token before
        end = start + draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3, 5, 30]))
        end = max(end, ranges[-1][1] if ranges else 0)
        ranges.append((start, end))
    breaks = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=40, max_size=40))
    n_pieces = end + draw(st.integers(0, 2))
    if not ranges:
        n_pieces = 0
    return (
        alignment_of(ranges),
        n_pieces,
        np.array(breaks[: len(ranges)], dtype=np.int8),
    )


# -- Slow and obvious ---------------------------------------------------------


def slow_trim(text: str, start: int, end: int) -> Tuple[int, int]:
    trimmed = text[start:end]
    if not trimmed or trimmed.isspace():
        return start, end
    left = len(trimmed) - len(trimmed.lstrip())
    return start + left, start + len(trimmed.rstrip())


def slow_align(raw, trimmed, tokens) -> List[Set[int]]:
    """All wordpieces of each token, by comparing all with all."""

    def overlapping(spans, start, end):
        return {i for i, (a, b) in enumerate(spans) if a < end and b > start}

    return [overlapping(trimmed, *t) or overlapping(raw, *t) for t in tokens]


def may_be_uncovered(text: str) -> bool:
    """Whether a token is nothing but whitespace and what Unicode calls Other."""
    return all(c.isspace() or unicodedata.category(c)[0] == "C" for c in text)


def uncovered_tokens(alignment: Alignment) -> Ints:
    """RETURNS (Ints): The tokens that no wordpiece covers: their vectors are zero."""
    return np.flatnonzero(alignment.starts == alignment.ends)


def spans(starts: np.ndarray, ends: np.ndarray) -> List[Tuple[int, int]]:
    """RETURNS (List[Tuple[int, int]]): The start and the end of each."""
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def ranges(alignment: Alignment) -> List[Tuple[int, int]]:
    """RETURNS (List[Tuple[int, int]]): The wordpieces of each token."""
    return spans(alignment.starts, alignment.ends)


def check_alignment(
    text: str, wordpieces: Wordpieces, tokens: Sequence[Tuple[int, int]]
) -> None:
    """Against `slow_align`."""
    starts, ends = np.array(tokens, dtype=np.int32).reshape(-1, 2).T
    alignment = align(wordpieces, starts, ends)
    expected = slow_align(
        spans(wordpieces.raw_starts, wordpieces.raw_ends),
        spans(wordpieces.starts, wordpieces.ends),
        tokens,
    )
    assert [set(range(a, b)) for a, b in ranges(alignment)] == expected
    assert (np.diff(alignment.starts) >= 0).all()
    assert (np.diff(alignment.ends) >= 0).all()
    assert (alignment.starts <= alignment.ends).all()
    uncovered = uncovered_tokens(alignment)
    assert uncovered.tolist() == [i for i, own in enumerate(expected) if not own]
    if len(wordpieces):
        assert all(may_be_uncovered(text[slice(*tokens[i])]) for i in uncovered)
