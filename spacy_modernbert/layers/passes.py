"""Passes through an encoder, and smaller ones where its device runs out of memory.

However many Docs there are, only one pass is held at a time, with what is needed of the
results of those before it (unless one trains with dropout: see `encode_batches`). A
pass that the device has too little memory for is made again in two halves, and its size
is remembered for a while, so that this does not happen with each batch.
"""

from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..encoder.protocol import Encoder, EncoderOutOfMemory
from ..types import Floats, PackedBatch, TokenRows
from .budget import Budget
from .plan import Plan

Backprop = Callable[[Floats], None]
# Makes one pass: `(n, width)` for the rows of `n` tokens. It is told the first row of
# the pass in the whole output.
PoolPass = Callable[[PackedBatch, TokenRows, int], Floats]


def pool_passes(
    plan: Plan,
    pool: PoolPass,
    width: int,
    budget: Budget,
) -> List[Floats]:
    """Make the passes of a plan, and keep only the token vectors of each.

    plan (Plan): The plan.
    pool (PoolPass): Makes one pass.
    width (int): The width of token vectors.
    budget (Budget): What passes may hold.
    RETURNS (List[Floats]): `(n_tokens, width)` for each Doc, zeros for tokens without
        wordpieces.
    RAISES (EncoderOutOfMemory): If the device has too little memory for one window.
    """
    ends = np.cumsum(plan.doc_lengths)
    vectors: Dict[int, Floats] = {}

    def run(batch: PackedBatch, start: int) -> None:
        tokens, rows = plan.rows.within(start, start + batch.total)
        pooled = pool(batch, rows, start)
        docs = np.searchsorted(ends, tokens, side="right")
        cuts = np.flatnonzero(np.diff(docs, prepend=-1, append=-1))
        for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            doc, n_tokens = int(docs[first]), int(plan.doc_lengths[docs[first]])
            if last - first == n_tokens:
                vectors[doc] = pooled[first:last]
            else:  # The windows of the Doc are in several passes.
                if doc not in vectors:
                    vectors[doc] = np.zeros((n_tokens, width), np.float32)
                places = tokens[first:last] - (ends[doc] - n_tokens)
                vectors[doc][places] = pooled[first:last]

    run_passes(plan.batches, budget, run)
    return [
        vectors[doc] if doc in vectors else np.zeros((n_tokens, width), np.float32)
        for doc, n_tokens in enumerate(plan.doc_lengths.tolist())
    ]


def encode_batches(
    encoder: Encoder, batches: Sequence[PackedBatch], budget: Budget, is_train: bool
) -> Tuple[Floats, Backprop]:
    """Encode batches one by one.

    What a pass must remember for its gradient is many times its output, so in
    training it is kept for one batch only, the last. The others are encoded again
    when the gradient arrives. One batch thus costs nothing extra, and more than one
    never need more memory than one. (Not so with dropout, which would differ the
    second time. ModernBERT as published has none.)

    encoder (Encoder): The encoder.
    batches (Sequence[PackedBatch]): The batches, maybe none.
    budget (Budget): What passes may hold.
    is_train (bool): Whether a gradient will arrive.
    RETURNS (Tuple[Floats, Backprop]): `(total, width)` the outputs end to end, and a
        callback that takes their gradient and adds to those of the encoder's weights.
    RAISES (EncoderOutOfMemory): If the device has too little memory for one window.
        So does the callback.
    """
    outputs = [np.zeros((0, encoder.config.hidden_size), np.float32)]
    done: List[Tuple[PackedBatch, Optional[Backprop]]] = []
    total = sum(batch.total for batch in batches)

    def run(batch: PackedBatch, start: int) -> None:
        backprop_batch = None
        is_last = start + batch.total == total
        if is_train and (encoder.config.has_dropout or is_last):
            output, backprop_batch = encoder.encode_train(batch)
        else:
            output = encoder.encode(batch)
        outputs.append(output)
        done.append((batch, backprop_batch))

    run_passes(batches, budget, run)

    def backprop(d_outputs: Floats) -> None:
        waiting = list(done)
        again: Optional[PackedBatch] = None
        done[:] = [(batch, None) for batch, _ in done]  # Each callback works once.
        end = d_outputs.shape[0]
        while waiting:
            batch, backprop_batch = waiting.pop()
            start = end - batch.total
            d_output = d_outputs[start:end]
            # A gradient of zeros teaches nothing.
            if d_output.any():
                try:
                    if backprop_batch is None:
                        _, backprop_batch = encoder.encode_train(batch)
                    backprop_batch(d_output)
                except EncoderOutOfMemory as error:
                    # With dropout, another pass would not drop out what this one did.
                    if encoder.config.has_dropout:
                        raise
                    if error.may_fit and batch is not again:
                        again = batch
                        waiting.append((batch, None))
                        continue
                    if batch.n_seqs < 2:
                        raise
                    budget.cut_below(batch)
                    waiting.extend((half, None) for half in batch.halves())
                    continue
            end = start

    return np.concatenate(outputs), backprop


def run_passes(
    batches: Sequence[PackedBatch],
    budget: Budget,
    run: Callable[[PackedBatch, int], None],
) -> None:
    """Run batches in order, in smaller parts where they are too large.

    batches (Sequence[PackedBatch]): The batches.
    budget (Budget): What passes may hold.
    run (Callable[[PackedBatch, int], None]): Runs one; told its first row in the whole
        output.
    RAISES (EncoderOutOfMemory): If the device has too little memory for one window.
    """
    waiting = list(batches)[::-1]
    start = 0
    again: Optional[PackedBatch] = None
    while waiting:
        batch = waiting.pop()
        if not budget.allows(batch):
            waiting.extend(reversed(batch.halves()))
            continue
        try:
            run(batch, start)
        except EncoderOutOfMemory as error:
            if error.may_fit and batch is not again:
                again = batch
            elif batch.n_seqs < 2:
                raise
            else:
                budget.cut_below(batch)
            waiting.append(batch)
        else:
            budget.note_success(batch)
            start += batch.total
