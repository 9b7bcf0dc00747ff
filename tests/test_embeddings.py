"""Vectors of texts, beside transformers' hidden states pooled by hand."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.util import load_config
from spacy.vocab import Vocab
from transformers import AutoModel, AutoTokenizer

from spacy_modernbert.embeddings import load_embedder, make_doc
from spacy_modernbert.types import PackedBatch, TokenRows

from .encoder.util import assert_rows_near
from .pipelines import change_settings, nlp_of, shared_config
from .util import (
    CountingEncoder,
    SmallDevice,
    make_checkpoint,
    make_text,
    require,
    tok2vec_config,
)

TEXTS = [
    make_text(0, 1),
    "",
    make_text(1, 6),
    "Oslo",
    "  \n\n\t ",
    "naïve 日本語のテキスト 👩‍🚀 [SEP] x\u0301",
    make_text(2, 30),
]
ATOL = 1e-4


@pytest.fixture(scope="module")
def oracle(checkpoint):
    """A function from a text, or ids, to transformers' last hidden state."""
    model = AutoModel.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def run(text):
        if isinstance(text, str):
            text = tokenizer(text.replace("[SEP]", "[ SEP ]"))["input_ids"]
        with torch.no_grad():
            ids = torch.tensor(np.asarray(text)[None])
            return model(input_ids=ids).last_hidden_state[0].numpy()

    return run


def load(checkpoint, **options):
    return load_embedder(str(checkpoint), **{"backend": "cpu", **options})


def cosines(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / lengths) @ (vectors / lengths).T


# -- Beside transformers ----------------------------------------------------------


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_alone_and_together(checkpoint, oracle, backend, pooling):
    embedder = load(checkpoint, backend=backend, pooling=pooling, precision="float32")
    texts = [text.replace("[SEP]", "[ SEP ]") for text in TEXTS]
    together = embedder.embed(texts)
    assert together.shape == (len(TEXTS), 32) and together.dtype == np.float32
    for text, vector in zip(texts, together, strict=True):
        if not text:
            assert not vector.any()
            continue
        hidden = oracle(text)
        wanted = hidden[0] if pooling == "cls" else hidden.mean(axis=0)
        np.testing.assert_allclose(vector, wanted, atol=ATOL)
        np.testing.assert_allclose(embedder.embed([text])[0], wanted, atol=ATOL)


def test_last_hidden_states(checkpoint, oracle, backend):
    embedder = load(checkpoint, backend=backend, precision="float32")
    texts = [TEXTS[2], "", TEXTS[0]]
    found = list(embedder.last_hidden_states(texts))
    assert found[1].shape == (0, 32)
    for text, hidden in zip(texts, found, strict=True):
        if text:
            np.testing.assert_allclose(hidden, oracle(text), atol=ATOL)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_three_windows(checkpoint, oracle, backend, pooling):
    """Each wordpiece once, as the window sees it in which it is farthest from a cut."""
    embedder = load(
        checkpoint,
        backend=backend,
        pooling=pooling,
        precision="float32",
        window=64,
        overlap=16,
    )
    text = make_text(3, 13)
    plan = embedder._plan([text])
    (windows,) = plan.windows
    assert len(windows) == 3
    (pieces,) = embedder.tokenizer([text])
    hidden = [
        oracle([1, *pieces.ids[window.piece_start : window.piece_end], 2])
        for window in windows
    ]
    n_pieces = len(pieces)
    assert windows[0].piece_start == 0 and windows[-1].piece_end == n_pieces
    rows, owners = [], []
    for piece in range(n_pieces):
        distances = []
        for window in windows:
            before = piece - window.piece_start if window.piece_start else np.inf
            after = window.piece_end - piece - 1
            after = after if window.piece_end < n_pieces else np.inf
            distances.append(min(before, after))
        owner = int(np.argmax(distances))
        owners.append(owner)
        rows.append(hidden[owner][1 + piece - windows[owner].piece_start])
    rows = [hidden[0][0], *rows, hidden[-1][-1]]
    if pooling == "mean":
        wanted = np.mean(rows, axis=0)
    else:
        shares = np.bincount(owners, minlength=3) / n_pieces
        wanted = sum(
            share * h[0] for share, h in zip(shares.tolist(), hidden, strict=True)
        )
    (found,) = embedder.embed([text])
    np.testing.assert_allclose(found, wanted, atol=ATOL)
    (states,) = embedder.last_hidden_states([text])
    np.testing.assert_allclose(states, np.stack(rows), atol=ATOL)


def test_as_the_checkpoint_says(tmp_path, oracle):
    mean = make_checkpoint(tmp_path / "mean", classifier_pooling="mean")
    assert load(mean).pooling == "mean"
    (mean / "modules.json").write_text(
        json.dumps([{"path": "1_Pooling", "type": "sentence_transformers.Pooling"}])
    )
    (mean / "1_Pooling").mkdir()
    (mean / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    embedder = load(mean)
    assert embedder.pooling == "cls"
    np.testing.assert_allclose(
        embedder.embed([TEXTS[0]])[0], oracle(TEXTS[0])[0], atol=ATOL
    )
    assert load(mean, pooling="mean").pooling == "mean"


# -- Properties -------------------------------------------------------------------


def test_normalized(checkpoint):
    embedder = load(checkpoint)
    vectors = embedder.embed(TEXTS)
    found = embedder.embed(TEXTS, normalize=True)
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 1, 1, 1, 1, 1], atol=1e-6)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found * norms, vectors, atol=1e-5)


def test_similarity(checkpoint):
    """Texts of the same words are more alike than others."""
    embedder = load(checkpoint, pooling="mean")
    found = cosines(
        embedder.embed(
            [
                "Anna Berg went to Oslo, they say.",
                "Anna Berg went to Bergen, they say.",
                "0101010101 0101 01010101!!!! 110",
            ]
        )
    )
    assert found[0, 1] > found[0, 2]
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-5)


def test_bit_by_bit(checkpoint):
    """No pass is larger than it may be, no more is read than is needed, and the order
    is kept."""
    embedder = load(checkpoint, pooling="mean", max_batch_wordpieces=128, window=64)
    counting = CountingEncoder(embedder.encoder)
    object.__setattr__(embedder, "encoder", counting)
    n_read = 0

    def read():
        nonlocal n_read
        for seed in range(40):
            n_read += 1
            yield make_text(seed, seed % 4)

    parts = embedder.stream(read())
    first = next(parts)
    assert 0 < len(first.vectors) == n_read < 30
    parts = [first, *parts]
    assert n_read == 40
    assert max(counting.encoded) <= 128
    assert sum(part.n_wordpieces for part in parts) == sum(counting.encoded)
    found = np.concatenate([part.vectors for part in parts])
    wanted = load(checkpoint, pooling="mean", window=64).embed(
        make_text(seed, seed % 4) for seed in range(40)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("text", ["日本語" * 60, "a" * 300, " " * 300, "\n" * 300])
def test_nothing_is_dropped_of_a_text_without_words(checkpoint, text):
    embedder = load(checkpoint, window=32, overlap=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        (found,) = embedder.last_hidden_states([text])
        embedder.embed([text])
    (pieces,) = embedder.tokenizer([text])
    assert len(found) == len(pieces) + 2


@given(st.text(), st.integers(1, 64))
def test_the_doc_has_the_text(text, longest):
    doc = make_doc(text, Vocab(), longest)
    assert doc.text == text
    assert max(map(len, doc), default=0) <= longest


def test_one_text_is_no_list(checkpoint):
    """Its characters would be taken for texts."""
    embedder = load_embedder(str(checkpoint), backend="cpu")
    for embed in (embedder.embed, embedder.stream, embedder.last_hidden_states):
        with pytest.raises(TypeError, match=r"single string: 'Anna Berg'\. Pass"):
            list(embed("Anna Berg"))


@pytest.mark.parametrize("text", [None, Doc(Vocab(), ["Anna"])])
def test_what_is_no_text(checkpoint, text):
    embedder = load_embedder(str(checkpoint), backend="cpu")
    for embed in (embedder.embed, embedder.stream, embedder.last_hidden_states):
        with pytest.raises(TypeError, match=r"texts\[1\] is of the type"):
            list(embed(["Anna Berg", text]))


def test_half_a_character(checkpoint):
    """As JSON can name, and what is read with surrogateescape."""
    embedder = load_embedder(str(checkpoint), backend="cpu")
    for embed in (embedder.embed, embedder.stream, embedder.last_hidden_states):
        with pytest.raises(ValueError, match=r"texts\[1\] has .* '\\ud83d', .* 4:"):
            list(embed(["Anna Berg", "Anna\ud83d"]))


def test_passes_too_short_for_any_window(checkpoint):
    with pytest.raises(ValueError, match="max_batch_wordpieces is 8, less than"):
        load_embedder(str(checkpoint), backend="cpu", max_batch_wordpieces=8)


def test_no_texts(checkpoint):
    embedder = load(checkpoint)
    assert embedder.embed([]).shape == (0, 32)
    assert list(embedder.stream([])) == []


# -- Where encoders come from -----------------------------------------------------


def test_of_a_pipeline(trained):
    embedder = load(trained)
    assert (embedder.get_spans.window, embedder.get_spans.overlap) == (8192, 512)
    of_the_folder = load(trained / "modernbert_ner" / "encoder")
    np.testing.assert_array_equal(embedder.embed(TEXTS), of_the_folder.embed(TEXTS))
    assert load(trained, window=100, overlap=10).get_spans.window == 100


@pytest.mark.parametrize(
    ("window", "found"), [(None, (64, 48)), (64, (64, 48)), (80, (80, 40))]
)
def test_windows_that_overlap_a_lot(trained, tmp_path, window, found):
    """What a pipeline says is taken as it is; for another window, it is no more than
    half of that."""
    folder = tmp_path / "nlp"
    shutil.copytree(trained, folder)
    get_spans = tok2vec_config(trained, window=64, overlap=48)["get_spans"]
    change_settings(folder, get_spans=get_spans)
    spans = load(folder, window=window).get_spans
    assert (spans.window, spans.overlap) == found


@pytest.mark.parametrize("changes", [{"window": "x"}, {"overlap": "x"}, None, 5])
def test_windows_that_are_none(trained, tmp_path, changes):
    folder = tmp_path / "nlp"
    shutil.copytree(trained, folder)
    get_spans = tok2vec_config(trained, window=64, overlap=48)["get_spans"]
    is_block = isinstance(changes, dict)
    get_spans = {**get_spans, **changes} if is_block else changes
    change_settings(folder, get_spans=get_spans)
    with pytest.raises(ValueError, match=r"get_spans|whole number of wordpieces"):
        load(folder)


def test_of_a_pipeline_that_a_recipe_trained(trained, tmp_path):
    """Its config has variables."""
    folder = tmp_path / "nlp"
    shutil.copytree(trained, folder)
    config = load_config(folder / "config.cfg")
    config["variables"] = {"window": 64, "overlap": 8}
    tok2vec = config["components"]["modernbert_ner"]["model"]["tok2vec"]
    tok2vec["get_spans"]["window"] = "${variables.window}"
    tok2vec["get_spans"]["overlap"] = "${variables.overlap}"
    config.to_disk(folder / "config.cfg")
    embedder = load(folder)
    assert (embedder.get_spans.window, embedder.get_spans.overlap) == (64, 8)
    wanted = load(trained, window=64, overlap=8).embed(TEXTS)
    np.testing.assert_array_equal(embedder.embed(TEXTS), wanted)


@pytest.mark.parametrize("kind", ["checkpoint", "trained"])
def test_a_backend_that_is_named_wins_over_the_variable(request, monkeypatch, kind):
    """Which wins over configs only."""
    place = request.getfixturevalue(kind)
    wanted = load(place).embed(TEXTS)
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    embedder = load(place)
    assert embedder.backend == embedder.encoder.device == "cpu"
    np.testing.assert_array_equal(embedder.embed(TEXTS), wanted)
    with pytest.raises(ValueError, match="BACKEND is 'tpu'"):
        load(place, backend=None)


def test_of_a_pipeline_quantized(trained):
    plain, quantized = load(trained), load(trained, quantization={"bits": 8})
    found, wanted = quantized.embed(TEXTS), plain.embed(TEXTS)
    assert not np.array_equal(found, wanted)
    is_text = np.array([bool(text) for text in TEXTS])
    assert_rows_near(found[is_text], wanted[is_text], 0.999)
    assert not found[~is_text].any()


def test_of_a_shared_encoder(checkpoint, tmp_path):
    require("spacy_transformers")
    model = shared_config(checkpoint, window=300, overlap=20)
    nlp = nlp_of(transformer={"factory": "transformer", "model": model})
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    embedder = load(tmp_path / "nlp")
    assert (embedder.get_spans.window, embedder.get_spans.overlap) == (300, 20)
    wanted = load(checkpoint).embed(TEXTS)
    np.testing.assert_allclose(embedder.embed(TEXTS), wanted, atol=1e-6)


def test_windows_of_other_span_getters(checkpoint, tmp_path):
    """They count in tokens, or in what they like."""
    require("spacy_transformers")
    nlp = spacy.blank("en")
    spans = {
        "@span_getters": "spacy-transformers.strided_spans.v1",
        "window": 128,
        "stride": 96,
    }
    tok2vec = {
        "@architectures": "spacy-modernbert.Tok2VecModernBert.v1",
        "name": str(checkpoint),
        "get_spans": spans,
    }
    model = {**nlp.get_factory_meta("modernbert_ner").default_config["model"]}
    nlp.add_pipe("modernbert_ner", config={"model": {**model, "tok2vec": tok2vec}})
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    found, wanted = load(tmp_path / "nlp"), load(checkpoint)
    assert found.get_spans == wanted.get_spans


def test_a_pipeline_without_an_encoder(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "nlp")
    with pytest.raises(ValueError, match="None of the components"):
        load(tmp_path / "nlp")


def test_what_cannot_be(checkpoint, tmp_path):
    for options, message in [
        ({"window": 9000}, "max_batch_wordpieces|9000"),
        ({"window": 128, "max_batch_wordpieces": 100}, "less than one window"),
        ({"window": 64, "overlap": 64}, "overlap"),
        ({"backend": "abacus"}, "abacus"),
        ({"precision": "float8"}, "float8"),
        ({"pooling": "max"}, "max"),
    ]:
        with pytest.raises(ValueError, match=message):
            load(checkpoint, **options)
    with pytest.raises(ValueError, match="gone"):
        load(tmp_path / "gone")


def test_defaults_that_fit(tmp_path):
    """A small encoder, and small passes, take smaller windows."""
    folder = make_checkpoint(tmp_path / "short", max_position_embeddings=128)
    spans = load(folder).get_spans
    assert (spans.window, spans.overlap) == (128, 64)
    assert load(folder, max_batch_wordpieces=100).get_spans.window == 100


def test_passes_smaller_than_the_window_of_a_pipeline(trained):
    """They take smaller windows, too, whatever the pipeline would make of them."""
    embedder = load(trained, max_batch_wordpieces=100)
    assert (embedder.get_spans.window, embedder.max_batch_wordpieces) == (100, 100)
    text = make_text(3, 13)
    wanted = load(trained, window=100, overlap=50).embed([text])
    np.testing.assert_allclose(embedder.embed([text]), wanted, atol=ATOL)
    with pytest.raises(ValueError, match="max_batch_wordpieces"):
        load(trained, max_batch_wordpieces=0)


def test_batches_are_packed(checkpoint):
    """Short texts go through the encoder together."""
    embedder = load(checkpoint)
    batches = []

    class Encoder(CountingEncoder):
        def encode_tokens(self, batch: PackedBatch, rows: TokenRows):
            batches.append(batch)
            return super().encode_tokens(batch, rows)

    object.__setattr__(embedder, "encoder", Encoder(embedder.encoder))
    embedder.embed(TEXTS)
    assert len(batches) == 1 and batches[0].n_seqs == len(TEXTS) - 1


def test_on_a_small_device(checkpoint):
    """Whose memory runs out in the middle, where vectors are summed over passes."""
    options = {"backend": "cpu", "precision": "float32", "window": 64, "overlap": 16}
    texts = [make_text(seed, 1 + 3 * seed) for seed in range(4)]
    embedder = load(checkpoint, **options)
    wanted = embedder.embed(texts)
    device = SmallDevice(embedder.encoder, 90)
    small = replace(load(checkpoint, **options), encoder=device)
    with pytest.warns(UserWarning, match="passes hold") as caught:
        found = small.embed(texts)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert device.refused and len(caught) == 1
