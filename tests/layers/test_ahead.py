"""The encoder of these tests says that it runs on a GPU, and so works in a thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from types import SimpleNamespace

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from thinc.api import NumpyOps, get_current_ops, use_ops

from spacy_modernbert import components
from spacy_modernbert.layers import ahead
from spacy_modernbert.layers.ahead import run_ahead, take_batches, works_aside

from ..pipelines import loaded_encoder
from ..scripts import needs_forks
from ..util import (
    count_passes,
    entities,
    make_text,
    put_on_small_device,
    some_entities,
)

TEXTS = [make_text(seed, 1 + seed % 5) for seed in range(300, 340)] + ["", " "]
THREAD = "spacy-modernbert"


@pytest.fixture(scope="module")
def wanted(trained):
    return some_entities(spacy.load(trained).pipe(TEXTS))


@pytest.fixture
def nlp(trained, monkeypatch):
    nlp = spacy.load(trained)
    encoder = count_passes(nlp.get_pipe("modernbert_ner").model)
    encoder.device = "cuda:0"
    # Batches of a few Docs.
    monkeypatch.setattr(ahead, "N_PASSES", 100 / 16384)
    return nlp


def fail_at(nlp, n):
    """Let the pass number n fail."""
    encoder = loaded_encoder(nlp)
    encode = encoder.encode_tokens

    def failing(batch, rows):
        if len(encoder.encoded) == n:
            encoder.encoded.append(0)
            raise OSError("the device is gone")
        return encode(batch, rows)

    encoder.encode_tokens = failing


def threads():
    return [t.name for t in threading.enumerate() if t.name.startswith(THREAD)]


def test_same_entities_in_the_same_order(nlp, wanted):
    docs = list(nlp.pipe(TEXTS))
    assert [doc.text for doc in docs] == TEXTS
    assert entities(docs) == wanted and sum(map(len, wanted)) > 50
    assert len(loaded_encoder(nlp).encoded) > 10
    assert threads() == []


def test_in_a_thread_and_ahead(nlp):
    encoder = loaded_encoder(nlp)
    encode = encoder.encode_tokens
    names = set()

    def watched(batch, rows):
        names.add(threading.current_thread().name)
        return encode(batch, rows)

    encoder.encode_tokens = watched
    asked = []
    stream = nlp.pipe(asked.append(i) or text for i, text in enumerate(TEXTS))
    next(stream)
    # Two batches more than the first one, and not all.
    docs = (nlp.make_doc(text) for text in TEXTS)
    first = islice(take_batches(docs, nlp.batch_size, 100), 3)
    assert len(asked) == sum(map(len, first)) < len(TEXTS)
    assert len(threads()) == 1
    stream.close()
    assert all(name.startswith(THREAD) for name in names) and names
    assert threads() == []


@pytest.mark.parametrize(("batch_size", "n_ahead"), [(1, 0), (2, 2), (3, 6)])
def test_not_farther_ahead_than_batches_are_long(nlp, batch_size, n_ahead):
    """Who gives texts one by one may wait for each to come back."""
    asked = []
    texts = (asked.append(i) or text for i, text in enumerate(TEXTS))
    stream = nlp.pipe(texts, batch_size=batch_size)
    next(stream)
    assert len(asked) <= batch_size + n_ahead
    stream.close()


@pytest.mark.parametrize(
    ("device", "aside"),
    [
        ("cuda:0", True),
        ("mps", True),
        ("mlx:gpu", True),
        ("onnx:CUDAExecutionProvider", True),
        ("cpu", False),
        ("mlx:cpu", False),
        ("openvino:CPU", False),
        ("onnx:CPUExecutionProvider", False),
    ],
)
def test_what_leaves_the_cores_to_others(device, aside):
    assert works_aside(SimpleNamespace(device=device)) == aside


def test_on_mps_torch_is_used_in_one_thread_only():
    """Its layers are there, too, after `require_gpu`."""
    with use_ops("mps"):
        assert not ahead._has_thread(SimpleNamespace(device="mps"))
        assert ahead._has_thread(SimpleNamespace(device="mlx:gpu"))
    assert ahead._has_thread(SimpleNamespace(device="mps"))


def test_the_thread_has_the_ops_of_the_caller(monkeypatch):
    """Else an allocator by torch would give host memory to CuPy."""

    class Ops(NumpyOps):
        name = "of-a-gpu"

    chosen = []
    gpu = SimpleNamespace(id=1)
    monkeypatch.setattr(ahead, "CupyOps", Ops)
    monkeypatch.setattr(
        ahead, "cupy", SimpleNamespace(cuda=SimpleNamespace(Device=lambda: gpu))
    )
    monkeypatch.setattr(ahead, "set_active_gpu", chosen.append)
    ops = Ops()
    with ThreadPoolExecutor(1, initializer=ahead._same_ops(ops)) as thread:
        assert thread.submit(get_current_ops).result() is ops
    assert chosen == [1]
    assert ahead._same_ops(NumpyOps()) is None


def test_on_the_cpu_there_is_no_thread(nlp, wanted):
    loaded_encoder(nlp).device = "cpu"
    stream = nlp.pipe(TEXTS)
    next(stream)
    assert threads() == []
    assert entities(nlp.pipe(TEXTS)) == wanted


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batch_size(nlp, wanted, batch_size):
    assert entities(nlp.pipe(TEXTS, batch_size=batch_size)) == wanted


def test_docs_before_an_error_are_given_out(nlp, wanted):
    fail_at(nlp, 3)
    found = []
    stream = nlp.pipe(TEXTS)
    with pytest.raises(OSError, match="the device is gone"):
        for doc in stream:
            found.append(doc)
    assert 0 < len(found) < len(TEXTS)
    assert entities(found) == wanted[: len(found)]
    assert threads() == []


@pytest.mark.parametrize("where", ["encoding", "planning", "decoding"])
def test_the_error_handler_gets_the_batch(nlp, wanted, where, monkeypatch):
    failed = []
    ner = nlp.get_pipe("modernbert_ner")
    if where == "encoding":
        fail_at(nlp, 3)
    elif where == "planning":
        plan_docs = ahead.plan_docs

        def failing_plan(layer, docs):
            if any(doc.text == TEXTS[9] for doc in docs):
                raise OSError("no plan")
            return plan_docs(layer, docs)

        monkeypatch.setattr(ahead, "plan_docs", failing_plan)
    else:
        own = type(ner).set_annotations

        def failing_set(self, docs, scores):
            if any(doc.text == TEXTS[9] for doc in docs):
                raise OSError("no entities")
            return own(self, docs, scores)

        monkeypatch.setattr(type(ner), "set_annotations", failing_set)

    def handle(name, pipe, docs, error):
        assert (name, pipe) == ("modernbert_ner", ner) and isinstance(error, OSError)
        failed.extend(doc.text for doc in docs)

    nlp.set_error_handler(handle)
    docs = list(nlp.pipe(TEXTS))
    assert 0 < len(failed) < len(TEXTS)
    at = TEXTS.index(failed[0])
    assert failed == TEXTS[at : at + len(failed)]
    rest = TEXTS[:at] + TEXTS[at + len(failed) :]
    assert [doc.text for doc in docs] == rest
    assert entities(docs) == wanted[:at] + wanted[at + len(failed) :]


def test_an_error_in_the_stream_comes_after_the_docs_before_it(nlp):
    def texts():
        yield from TEXTS[:20]
        raise KeyError("no more")

    found = []
    with pytest.raises(KeyError, match="no more"):
        for doc in nlp.pipe(texts()):
            found.append(doc.text)
    assert 10 < len(found) <= 20 and found == TEXTS[: len(found)]
    assert threads() == []


def test_interrupted(nlp):
    def texts():
        yield from TEXTS[:20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(nlp.pipe(texts()))
    assert threads() == []


@needs_forks
def test_a_thread_in_each_process(nlp, wanted):
    assert entities(nlp.pipe(TEXTS, n_process=2, batch_size=7)) == wanted


def test_memory_runs_out_in_the_thread(nlp, wanted):
    ner = nlp.get_pipe("modernbert_ner")
    device = put_on_small_device(ner.model, 90)
    device.device = "cuda:0"
    with pytest.warns(UserWarning, match="passes hold"):
        assert entities(nlp.pipe(TEXTS)) == wanted
    assert max(device.encoded) <= 90


@pytest.mark.parametrize("beam_width", [1, 4])
def test_the_stock_parser_takes_the_vectors_too(nlp, monkeypatch, beam_width):
    """And encodes nothing a second time, in the thread that decodes."""
    monkeypatch.setattr(components, "import_compiled", lambda name: None)
    ner = nlp.get_pipe("modernbert_ner")
    ner.cfg["beam_width"] = beam_width
    encoder = loaded_encoder(nlp)
    encode_tokens, names = encoder.encode_tokens, []

    def spy(batch, rows):
        names.append(threading.current_thread().name)
        return encode_tokens(batch, rows)

    monkeypatch.setattr(encoder, "encode_tokens", spy)
    found = entities(nlp.pipe(TEXTS))
    assert names and all(name.startswith(THREAD) for name in names)
    assert entities([nlp(text) for text in TEXTS]) == found
    n_tokens = sum(len(nlp.make_doc(text)) for text in TEXTS)
    assert 0 < sum(map(len, found)) < n_tokens


def test_run_ahead():
    started = []
    pairs = run_ahead(range(6), lambda i: started.append(i) or -i, 2)
    assert next(pairs) == (0, 0) and started == [0, 1, 2]
    assert next(pairs) == (1, -1) and started == [0, 1, 2, 3]
    assert list(pairs) == [(i, -i) for i in range(2, 6)]
    assert list(run_ahead([], lambda i: i, 2)) == []
    assert list(run_ahead([1], lambda i: i, 2)) == [(1, 1)]


def test_take_batches():
    docs = [np.zeros(n) for n in (3, 3, 9, 1, 1, 1, 0)]
    sizes = [[len(doc) for doc in batch] for batch in take_batches(docs, 3, 6)]
    assert sizes == [[3, 3], [9], [1, 1, 1], [0]]
    assert list(take_batches([], 3, 6)) == []


@given(
    lengths=st.lists(st.integers(0, 9), max_size=30),
    max_docs=st.integers(1, 7),
    max_tokens=st.integers(1, 20),
)
def test_batches_end_where_those_of_spacy_do(lengths, max_docs, max_tokens):
    docs = [np.zeros(n) for n in lengths]
    batches = list(take_batches(docs, max_docs, max_tokens))
    assert list(chain(*batches)) == docs
    ends = set(np.cumsum([len(batch) for batch in batches]).tolist())
    assert ends >= set(range(max_docs, len(docs) + 1, max_docs))
    for batch in batches:
        assert batch and sum(map(len, batch[:-1])) < max_tokens
