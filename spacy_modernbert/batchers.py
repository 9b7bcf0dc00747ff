"""Registered batchers: training examples → batches."""

import itertools
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import (
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch

from .checks import is_int, is_number
from .documents.wordpieces import WordpieceTokenizer
from .encoder.hub import resolve_tokenizer
from .errors import Errors

# A wordpiece of English text has a little more than four bytes.
_BYTES_PER_WORDPIECE = 4

Item = Union[Doc, Example]
ItemT = TypeVar("ItemT")
Size = Union[int, float]


def batch_by_wordpieces_v1(
    size: Union[int, Iterable[Size]],
    buffer: Optional[int] = None,
    tokenizer: Optional[Union[str, Path]] = None,
    get_length: Optional[Callable[[Any], int]] = None,
) -> "WordpieceBatcher":
    """Create a batcher that fills batches with documents up to a number of
    wordpieces, and never discards one: a document that is longer is a batch of its
    own. Registered as `spacy-modernbert.batch_by_wordpieces.v1`.

    size (Union[int, Iterable[Size]]): The wordpieces of a batch, or a schedule
        that gives those of each batch in turn.
    buffer (Optional[int]): If set, so many documents at a time are sorted by
        length before they are put into batches, so that batches hold documents of
        about the same length. If not, documents stay in order.
    tokenizer (Optional[Union[str, Path]]): A `tokenizer.json`, a folder with one, or
        a hub id, to count wordpieces exactly. Without it their number is estimated:
        as many as the spaCy tokens, or a quarter of the bytes in UTF-8, if that is
        more.
    get_length (Optional[Callable[[Any], int]]): Another way to find the length of
        a document (an Example or a Doc).
    RETURNS (WordpieceBatcher): The batcher.
    RAISES (ValueError): If a value makes no sense, both a tokenizer and get_length are
        given, or the tokenizer cannot be found or downloaded.
    RAISES (FileNotFoundError): If a folder has no tokenizer.
    """
    if tokenizer is not None and get_length is not None:
        raise ValueError(Errors.BATCHER_TWO_LENGTHS.format(tokenizer=tokenizer))
    if get_length is not None and not callable(get_length):
        raise ValueError(Errors.BAD_BATCHER_LENGTH.format(value=get_length))
    if tokenizer is not None:
        found = WordpieceTokenizer.from_file(resolve_tokenizer(tokenizer))
        get_length = partial(count_wordpieces, found)
    return WordpieceBatcher(size, buffer, get_length or estimate_wordpieces)


@dataclass
class WordpieceBatcher:
    """Puts documents into batches: `(Iterable[Item]) -> Iterator[List[Item]]`.

    Called again, for the next epoch, it goes on with the same schedule of sizes.
    A schedule that ends keeps its last size.

    size (Union[int, Iterable[Size]]): The wordpieces of a batch, or a schedule.
    buffer (Optional[int]): How many documents at a time are sorted by length.
    get_length (Callable[[Any], int]): The length of a document. Every document
        counts for 1 at least.
    """

    size: Union[int, Iterable[Size]]
    buffer: Optional[int]
    get_length: Callable[[Any], int]
    _sizes: Iterator[Size] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        buffer = self.buffer
        if buffer is not None and (not is_int(buffer) or buffer < 1):
            raise ValueError(Errors.BAD_BATCHER_BUFFER.format(value=buffer))
        self._sizes = _sizes(self.size)

    def __call__(self, items: Iterable[Item]) -> Iterator[List[Item]]:
        """Divide documents into batches.

        items (Iterable[Item]): Examples or Docs.
        YIELDS (List[Item]): Batches: none is empty, and each item is in one.
        """
        with_lengths = ((item, max(1, self.get_length(item))) for item in items)
        if self.buffer is None:
            yield from self._fill(with_lengths)
            return
        for group in minibatch(with_lengths, size=self.buffer):
            yield from self._fill_by_length(list(group))

    def _fill(self, items: Iterable[Tuple[ItemT, int]]) -> Iterator[List[ItemT]]:
        batch: List[ItemT] = []
        size: Size = 0
        total = 0
        for item, length in items:
            if batch and total + length > size:
                yield batch
                batch = []
            if not batch:
                size = next(self._sizes)
                total = 0
            batch.append(item)
            total += length
        if batch:
            yield batch

    def _fill_by_length(self, group: List[Tuple[Item, int]]) -> Iterator[List[Item]]:
        by_length = sorted(range(len(group)), key=lambda i: group[i][1])
        batches = list(self._fill((i, group[i][1]) for i in by_length))
        # Not by length, which would always leave long documents for last, but by
        # where the first document of each batch stood.
        for batch in sorted(batches, key=min):
            yield [group[i][0] for i in sorted(batch)]


def estimate_wordpieces(item: Item) -> int:
    """Guess the wordpieces of a document without a tokenizer.

    item (Item): An Example or a Doc.
    RETURNS (int): Its spaCy tokens, or a quarter of its bytes in UTF-8, if that is
        more.
    """
    doc = _doc(item)
    n_bytes = len(doc.text.encode("utf8"))
    return max(len(doc), math.ceil(n_bytes / _BYTES_PER_WORDPIECE))


def count_wordpieces(tokenizer: WordpieceTokenizer, item: Item) -> int:
    """Count the wordpieces of a document.

    tokenizer (WordpieceTokenizer): The tokenizer.
    item (Item): An Example or a Doc.
    RETURNS (int): Its wordpieces, with the special ones around one sequence.
    """
    (ids,) = tokenizer.ids([_doc(item).text])
    return len(ids) + tokenizer.n_special


def _doc(item: Item) -> Doc:
    return item.reference if isinstance(item, Example) else item


def _sizes(size: Union[int, Iterable[Size]]) -> Iterator[Size]:
    """The size of each batch in turn, without end. The first is checked at once,
    the others as they come."""
    if isinstance(size, Iterable) and not isinstance(size, (str, bytes)):
        schedule = iter(size)
        first = next(schedule, None)
        return _checked(itertools.chain([_check_size(first)], schedule))
    if not isinstance(size, int):
        raise ValueError(Errors.BAD_BATCHER_SIZE.format(value=size))
    return itertools.repeat(_check_size(size))


def _checked(schedule: Iterator[Size]) -> Iterator[Size]:
    size: Size = 1
    for value in schedule:
        size = _check_size(value)
        yield size
    yield from itertools.repeat(size)


def _check_size(value: Any) -> Size:
    if not is_number(value) or value < 1:
        raise ValueError(Errors.BAD_BATCHER_SIZE.format(value=value))
    return value
