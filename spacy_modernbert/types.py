"""The data that travels between the rooms."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import Errors

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class PackedBatch:
    """Sequences of wordpieces laid end to end, without padding.

    ids (Ints): `(total,)` int64, wordpiece ids, special tokens included.
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
