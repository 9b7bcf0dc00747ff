"""The data that travels between the rooms (subpackages)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Iterator, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from .errors import Errors

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class PackedBatch:
    """Sequences of wordpieces laid end to end, without padding.

    ids (Ints): `(total,)` int64, wordpiece ids, special ones included.
    cu_seqlens (Ints): `(n_seqs + 1,)` int32, where each sequence starts and,
        last, where the last one ends: sequence `i` is
        `ids[cu_seqlens[i] : cu_seqlens[i + 1]]`. The name is that of flash
        attention's variable-length interface.

    Invariants: `cu_seqlens[0] == 0`, `cu_seqlens[-1] == total`, and no sequence
    is empty. A batch of no sequences is `cu_seqlens == [0]`.
    """

    ids: Ints
    cu_seqlens: Ints

    def __post_init__(self) -> None:
        cu = self.cu_seqlens
        if (
            self.ids.ndim != 1
            or cu.ndim != 1
            or cu.size == 0
            or cu[0] != 0
            or cu[-1] != self.ids.size
            or bool((np.diff(cu) <= 0).any())
        ):
            raise ValueError(
                Errors.BAD_CU_SEQLENS.format(
                    cu_seqlens=cu.tolist()[:8], total=self.ids.size
                )
            )

    @classmethod
    def of(cls, sequences: Sequence[Ints]) -> "PackedBatch":
        """Lay sequences end to end.

        sequences (Sequence[Ints]): `(length,)` each, not empty. There may be none.
        RETURNS (PackedBatch): The batch. The ids are copied.
        """
        ids = np.concatenate([np.zeros(0, np.int64), *sequences], dtype=np.int64)
        return cls(ids, np.cumsum([0, *map(len, sequences)], dtype=np.int32))

    @property
    def total(self) -> int:
        """RETURNS (int): The number of wordpieces."""
        return int(self.ids.size)

    @property
    def n_seqs(self) -> int:
        """RETURNS (int): The number of sequences."""
        return int(self.cu_seqlens.size) - 1

    @property
    def lengths(self) -> Ints:
        """RETURNS (Ints): `(n_seqs,)`, the wordpieces of each sequence."""
        return np.diff(self.cu_seqlens)

    @property
    def owners(self) -> Ints:
        """RETURNS (Ints): `(total,)` int32, the sequence that each wordpiece is of."""
        return np.repeat(np.arange(self.n_seqs, dtype=np.int32), self.lengths)

    def take(self, start: int, end: int) -> "PackedBatch":
        """Some of the sequences, as a batch of their own.

        start, end (int): The first sequence, and the one behind the last.
        RETURNS (PackedBatch): Sequences `start` up to `end`. The ids are shared.
        """
        cu = self.cu_seqlens[start : end + 1]
        return PackedBatch(self.ids[cu[0] : cu[-1]], cu - cu[0])

    def parts(self, max_wordpieces: int) -> Iterator["PackedBatch"]:
        """Cut the batch between sequences.

        max_wordpieces (int): The most wordpieces of a part. A longer sequence is a part
            of its own.
        YIELDS (PackedBatch): The parts, in order, each as long as it may be.
        """
        for part in fill(self.lengths, max_wordpieces):
            yield self.take(part.start, part.stop)

    def halves(self) -> Tuple["PackedBatch", "PackedBatch"]:
        """Cut a batch of at least two sequences where the halves are most alike.

        RETURNS (Tuple[PackedBatch, PackedBatch]): The halves, in order.
        """
        cu = self.cu_seqlens
        middle = 1 + int(np.argmin(np.abs(2 * cu[1:-1].astype(np.int64) - self.total)))
        return self.take(0, middle), self.take(middle, self.n_seqs)


def pack(sequences: Sequence[Ints], max_wordpieces: int) -> Iterator[PackedBatch]:
    """Lay sequences end to end in batches, in order.

    sequences (Sequence[Ints]): `(length,)` each, not empty.
    max_wordpieces (int): The most wordpieces of a batch. A longer sequence is a batch
        of its own.
    YIELDS (PackedBatch): The batches, each as long as it may be.
    """
    for part in fill([len(each) for each in sequences], max_wordpieces):
        yield PackedBatch.of(sequences[part])


def fill(lengths: Union[Sequence[int], Ints], most: int) -> Iterator[slice]:
    """Divide things of some lengths into groups, in order.

    lengths (Union[Sequence[int], Ints]): `(n,)` the lengths.
    most (int): What a group may hold, at least 1. What is longer is a group of its own.
    YIELDS (slice): Which of them are in each group. None is empty, and each is as long
        as it may be.
    """
    totals = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    start, n = 0, totals.size - 1
    while start < n:
        fits = int(np.searchsorted(totals, totals[start] + most, side="right")) - 1
        end = max(fits, start + 1)
        yield slice(start, end)
        start = end


@dataclass(frozen=True)
class TokenRows:
    """Which rows of a packed encoder output belong to each spaCy token.

    rows (Ints): `(nnz,)` int32, indices of rows, those of the first token first.
        A row that several tokens share is there several times.
    lengths (Ints): `(n_tokens,)` int32, how many rows each token has: 0 for one
        that no wordpiece covers. `lengths.sum() == nnz`.
    """

    rows: Ints
    lengths: Ints

    @classmethod
    def concat(cls, parts: Sequence["TokenRows"]) -> "TokenRows":
        """Join the rows of several Docs in one packed output.

        parts (Sequence[TokenRows]): The rows of each, in order.
        RETURNS (TokenRows): The rows of all their tokens.
        """
        none = np.zeros(0, dtype=np.int32)
        return cls(
            np.concatenate([none, *(part.rows for part in parts)]),
            np.concatenate([none, *(part.lengths for part in parts)]),
        )

    @cached_property
    def starts(self) -> Ints:
        """RETURNS (Ints): `(n_tokens,)`, where those of each token begin in `rows`."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def firsts(self) -> Ints:
        """RETURNS (Ints): `(n_tokens,)`, the first row of each token. A token without
        rows gets that of the next token that has some; else the last row, or 0.
        """
        if not self.rows.size:
            return np.zeros_like(self.lengths)
        return self.rows[np.minimum(self.starts, self.rows.size - 1)]

    def within(self, start: int, end: int) -> Tuple[Ints, "TokenRows"]:
        """Find the tokens that a part of the packed output covers. Parts that are
        encoded separately never share a token, whose rows are all in one window.

        start, end (int): The rows of the part, `[start, end)`.
        RETURNS (Tuple[Ints, TokenRows]): `(n,)` rising, the tokens that belong to it,
            and the rows of each of them, counted from `start`. Parts that make up the
            whole output cover all tokens, including those without rows.
        """
        firsts = self.firsts
        tokens = np.flatnonzero((firsts >= start) & (firsts < end))
        lengths = self.lengths[tokens]
        which = lay_ranges(self.starts[tokens], lengths)
        return tokens, TokenRows(self.rows[which] - start, lengths)


def lay_ranges(starts: Ints, lengths: Ints) -> Ints:
    """Lay ranges of whole numbers end to end.

    starts, lengths (Ints): `(n,)` the first number of each, and how many there are.
    RETURNS (Ints): `(lengths.sum(),)` the numbers of the first, of the second …
    """
    # The first number of each range, less its position in the result.
    shifts = starts - (np.cumsum(lengths) - lengths)
    return np.repeat(shifts, lengths) + np.arange(int(lengths.sum()))
