"""Docs go through the encoder while those before them are decoded and those after them
are tokenized.

An encoder on a GPU leaves the host idle while it works. Here it works in a thread of
its own, which is handed plans and nothing of spaCy's. On the CPU, where an encoder
takes all cores as it is, everything is done in turn, and so it is on MPS where torch's
other layers use it, too.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import (
    Callable,
    Deque,
    Generator,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
    TypeVar,
)

from spacy.tokens import Doc
from thinc.api import (
    CupyOps,
    MPSOps,
    Ops,
    get_current_ops,
    set_active_gpu,
    set_current_ops,
)
from thinc.compat import cupy

from ..encoder.protocol import Encoder
from .encode import get_shim, plan_docs
from .plan import Plan
from .tok2vec import DocVectors, EncodedDocList, Tok2Vec

Predict = Callable[[Tok2Vec, Plan], DocVectors]
# Batches, and for each a function that returns its Docs, ready for the model.
Batches = Generator[Tuple[List[Doc], Callable[[], List[Doc]]], None, None]
Item = TypeVar("Item")
Started = TypeVar("Started")

# The size of a batch, in full passes. On a CPU, larger batches gain nothing: the memory
# of small ones is reused, while large blocks are requested from the system each time.
N_PASSES, N_PASSES_ON_CPU = 2.0, 0.5
# How many batches are with the encoder or wait for it while another is decoded. With
# two, it has its next one at hand when it is done with one.
N_AHEAD = 2


def encode_ahead(
    tok2vec: Tok2Vec, docs: Iterable[Doc], batch_size: int, predict: Predict
) -> Batches:
    """Send a stream of Docs through the encoder, in batches of a few passes. Where the
    encoder does not run on the CPU, it is up to two batches ahead of the caller: one if
    `batch_size` is 2, and none if it is 1.

    tok2vec (Tok2Vec): A model of `modernbert_tok2vec`, with an encoder.
    docs (Iterable[Doc]): The Docs. They are asked for in the caller's thread.
    batch_size (int): The most Docs in a batch.
    predict (Predict): Makes the passes of a plan: `predict_vectors`, or what makes more
        than vectors of tokens. It is called in the other thread.
    YIELDS (Tuple[List[Doc], Callable[[], List[Doc]]]): The batches, in order; and for
        each a function that returns its Docs, sorted by length, as an `EncodedDocList`,
        or raises what went wrong with them. An error in the stream of Docs is raised
        after the batches before it.
    """
    batches = take_batches(docs, batch_size, _count_tokens(tok2vec))
    if not _has_thread(get_shim(tok2vec.layers[0]).loaded.encoder):
        for batch in batches:
            yield batch, partial(_encode, tok2vec, predict, batch)
        return
    thread = ThreadPoolExecutor(
        1, thread_name_prefix="spacy-modernbert", initializer=_same_ops(tok2vec.ops)
    )
    try:
        # Whoever takes Docs one by one may want to see each before giving the next.
        n_ahead = min(N_AHEAD, batch_size - 1)
        yield from run_ahead(
            batches, partial(_start, tok2vec, thread, predict), n_ahead
        )
    finally:
        # Also when the caller stops early. This waits for a plan that is being run.
        thread.shutdown(wait=True, cancel_futures=True)


def leave_to_model(tok2vec: Tok2Vec, docs: Iterable[Doc], batch_size: int) -> Batches:
    """The same batches, for a model that keeps vectors and looks them up by itself.

    tok2vec (Tok2Vec): A model of `modernbert_tok2vec`, with an encoder.
    docs (Iterable[Doc]): The Docs.
    batch_size (int): The most Docs in a batch.
    YIELDS (Tuple[List[Doc], Callable[[], List[Doc]]]): The batches, in order; and for
        each a function that returns its Docs, sorted by length.
    """
    for batch in take_batches(docs, batch_size, _count_tokens(tok2vec)):
        yield batch, partial(sorted, batch, key=len)


def _count_tokens(tok2vec: Tok2Vec) -> float:
    """RETURNS (float): The number of tokens at which a batch ends."""
    shim = get_shim(tok2vec.layers[0])
    aside = works_aside(shim.loaded.encoder)
    return (N_PASSES if aside else N_PASSES_ON_CPU) * shim.budget.wordpieces


def works_aside(encoder: Encoder) -> bool:
    """RETURNS (bool): Whether an encoder leaves the host's cores to others."""
    return "cpu" not in encoder.device.lower()


def _has_thread(encoder: Encoder) -> bool:
    """RETURNS (bool): Whether it works in a thread of its own. Not on MPS after
    `require_gpu`: torch's layers in the caller's thread are there, too, and two threads
    cannot use it at a time (https://github.com/pytorch/pytorch/issues/197805).
    """
    shares = encoder.device == "mps" and isinstance(get_current_ops(), MPSOps)
    return works_aside(encoder) and not shares


def take_batches(
    docs: Iterable[Doc], max_docs: int, max_tokens: float
) -> Iterator[List[Doc]]:
    """Take Docs from a stream until they are as many, or as long, as they may be. After
    each `max_docs` Docs, a batch ends, as spaCy's own do: who takes so many within a
    memory zone has all that were made in it.

    docs (Iterable[Doc]): The Docs.
    max_docs (int): The most Docs of a batch.
    max_tokens (float): A batch ends with the Doc by which it has so many tokens.
    YIELDS (List[Doc]): Batches, in order. None is empty.
    """
    batch: List[Doc] = []
    n_tokens = 0
    for n_docs, doc in enumerate(docs, 1):
        batch.append(doc)
        n_tokens += len(doc)
        if n_docs % max_docs == 0 or n_tokens >= max_tokens:
            yield batch
            batch, n_tokens = [], 0
    if batch:
        yield batch


def run_ahead(
    items: Iterable[Item], start: Callable[[Item], Started], n_ahead: int
) -> Iterator[Tuple[Item, Started]]:
    """Start something for each item of a stream, some items before it is its turn.

    items (Iterable[Item]): The items.
    start (Callable[[Item], Started]): Starts it. It must not raise what goes wrong with
        an item, but leave that to what it returns.
    n_ahead (int): How many items.
    YIELDS (Tuple[Item, Started]): Each item and what `start` returned. An error in the
        stream is raised after the items before it.
    """
    waiting: Deque[Tuple[Item, Started]] = deque()
    stream = iter(items)
    error = None
    while error is None:
        try:
            item = next(stream)
        except StopIteration:
            break
        except Exception as raised:
            error = raised
            continue
        waiting.append((item, start(item)))
        if len(waiting) > n_ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
    if error is not None:
        raise error


def _same_ops(ops: Ops) -> Optional[Callable[[], None]]:
    """RETURNS (Optional[Callable[[], None]]): Makes another thread work on the GPU that
    Thinc uses in this one, if any, and by Thinc's ops for it: `--gpu-id` chooses both
    for its own thread only. An allocator by torch takes its device from the ops.
    """
    if not isinstance(ops, CupyOps):
        return None
    gpu = cupy.cuda.Device().id

    def use() -> None:
        set_current_ops(ops)
        set_active_gpu(gpu)

    return use


def _encode(tok2vec: Tok2Vec, predict: Predict, batch: List[Doc]) -> EncodedDocList:
    docs = sorted(batch, key=len)
    plan = plan_docs(tok2vec.layers[0], docs)
    return EncodedDocList(docs, predict(tok2vec, plan))


def _start(
    tok2vec: Tok2Vec, thread: ThreadPoolExecutor, predict: Predict, batch: List[Doc]
) -> Callable[[], EncodedDocList]:
    docs = sorted(batch, key=len)
    try:
        plan = plan_docs(tok2vec.layers[0], docs)
    except Exception as error:
        return partial(_raise, error)
    future = thread.submit(predict, tok2vec, plan)
    return lambda: EncodedDocList(docs, future.result())


def _raise(error: Exception) -> EncodedDocList:
    raise error
