"""Token vectors that are kept from one epoch of a training to the next."""

import hashlib
import warnings
import weakref
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..encoder.protocol import Encoder
from ..errors import Warnings
from ..types import Floats
from .plan import Plan


class KeptVectors:
    """The vectors of the tokens of Docs, by an encoder that is not trained: they are
    the same in each epoch, and in each evaluation.

    What came first is kept, and never dropped for what comes later. Each epoch visits
    every Doc once: if there are more Docs than room, keeping the latest ones would mean
    that each is gone when its turn comes again.

    max_bytes (int): The most that is kept.
    n_bytes (int): How much is kept.

    This is a setting of a layer. What is in it is neither saved nor copied.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._was_full = False
        self._forget(None)

    def __reduce__(self) -> Tuple[type, Tuple[int]]:
        return KeptVectors, (self.max_bytes,)

    def recall(
        self,
        encoder: Encoder,
        plans: Sequence[Plan],
        make: Callable[[List[int]], Sequence[Floats]],
    ) -> List[Floats]:
        """Take the vectors that are kept, and have the others made.

        encoder (Encoder): What makes them. If it is another than the last time, all
            that was kept is dropped first.
        plans (Sequence[Plan]): One for each Doc: all that its vectors depend on.
        make (Callable[[List[int]], Sequence[Floats]]): Makes those of some Docs, of
            which it is given the indices.
        RETURNS (List[Floats]): `(n_tokens, width)` for each Doc, to be changed at will.
        """
        if encoder is not self._encoder():
            self._forget(encoder)
        # Another thread may have all of them dropped in the meantime.
        vectors = self._vectors
        keys = [_key(plan) for plan in plans]
        missing = [i for i, key in enumerate(keys) if key not in vectors]
        made = dict(zip(missing, make(missing) if missing else (), strict=True))
        # If so, what was made by the old encoder is kept nowhere.
        is_full = [not self._keep(vectors, keys[i], rows) for i, rows in made.items()]
        if any(is_full) and not self._was_full:
            self._was_full = True
            self._warn(made[missing[0]].shape[1])
        return [
            made[i] if i in made else vectors[key].copy() for i, key in enumerate(keys)
        ]

    def _keep(self, vectors: Dict[bytes, Floats], key: bytes, rows: Floats) -> bool:
        """RETURNS (bool): Whether there is room for the rows, or they need none: a
        batch may hold a Doc twice.
        """
        if key in vectors or vectors is not self._vectors:
            return True
        if self.n_bytes + rows.nbytes > self.max_bytes:
            return False
        # A copy: a view would hold the whole array that these rows are part of.
        vectors[key] = rows.copy()
        self.n_bytes += rows.nbytes
        return True

    def _warn(self, width: int) -> None:
        message = Warnings.KEPT_VECTORS_FULL.format(
            n_docs=len(self._vectors),
            max_mb=self.max_bytes / 1e6,
            n_bytes=np.dtype(np.float32).itemsize * width,
        )
        warnings.warn(message, UserWarning, stacklevel=2)

    def _forget(self, encoder: Optional[Encoder]) -> None:
        # The vectors first: a thread that finds the new encoder must find no old ones.
        self._vectors: Dict[bytes, Floats] = {}
        self.n_bytes = 0
        # An encoder that is replaced elsewhere is not held for its vectors.
        self._encoder = (lambda: None) if encoder is None else weakref.ref(encoder)


def _key(plan: Plan) -> bytes:
    """What identifies a plan: the wordpieces of its windows, and the rows of each
    token. How windows share passes is not part of it, since that changes once a device
    has run out of memory.
    """
    found = hashlib.blake2b(digest_size=16)
    for array in (plan.window_lengths, plan.ids, plan.rows.lengths, plan.rows.rows):
        # With its length, so that its bytes cannot pass for those of the next array.
        found.update(array.size.to_bytes(8, "little"))
        found.update(array.tobytes())
    return found.digest()
