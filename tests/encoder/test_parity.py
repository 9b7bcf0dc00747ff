"""Our encoder gives what transformers' ModernBertModel gives, forward and backward."""

import json

import numpy as np
import pytest

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    save_checkpoint,
)
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.torch import checkpointing
from spacy_modernbert.encoder.torch import encoder as torch_encoder
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.types import PackedBatch, TokenRows

from ..util import PUBLISHED, gradients_of
from .util import (
    SHAPES,
    assert_close,
    assert_gradients,
    assert_hidden_states,
    assert_parity,
    draw,
    draw_batch,
    encoder_of,
    in_place,
    load,
    make_byte_tokenizer,
    make_irregular,
    make_masked_lm,
    make_oracle,
    run_oracle,
    state,
    to_new_dialect,
)

# To either side of what may go wrong: one wordpiece, the edges of the local window
# (64 to each side), of a block of it, of two of them, and beyond all of those.
LENGTHS = [1, 2, 63, 64, 65, 66, 127, 128, 129, 130, 255, 256, 257, 1000]


# Every length


@pytest.mark.parametrize("length", LENGTHS)
def test_alone(oracle, length):
    assert_parity(load(oracle), oracle, [length])


def test_packed(oracle):
    assert_parity(load(oracle), oracle, LENGTHS)


def test_packed_in_any_order(oracle):
    rng = np.random.default_rng(0)
    sequences, _ = draw(LENGTHS)
    encoder = load(oracle)
    alone = [encoder.encode(PackedBatch.of([ids])) for ids in sequences]
    for _ in range(5):
        order = rng.permutation(len(LENGTHS))
        batch = PackedBatch.of([sequences[i] for i in order])
        parts = np.split(encoder.encode(batch), batch.cu_seqlens[1:-1])
        for i, part in zip(order, parts, strict=True):
            np.testing.assert_allclose(part, alone[i], atol=1e-5)


@pytest.mark.parametrize("lengths", [[1] * 5, [1, 200, 1], [64, 64, 64], [128, 1]])
def test_odd_packs(oracle, lengths):
    assert_parity(load(oracle), oracle, lengths)


@pytest.mark.slow
def test_8192():
    """One layer of each kind: transformers holds a mask of 8,192 x 8,192."""
    model = make_oracle(
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=2,
        num_hidden_layers=2,
    )
    assert_parity(load(model), model, [8192])


def test_beyond_8192_positions_is_a_matter_of_the_caller(oracle):
    """No table of positions ends there."""
    found = load(oracle).encode(draw_batch([9000]))
    assert found.shape == (9000, 32) and np.isfinite(found).all()


def test_no_sequences(oracle):
    batch = PackedBatch(ids=np.zeros(0, np.int64), cu_seqlens=np.zeros(1, np.int32))
    encoder = load(oracle)
    assert encoder.encode(batch).shape == (0, 32)
    out, backprop = encoder.encode_train(batch)
    assert out.shape == (0, 32)
    backprop(out)


# Every shape of model


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_every_shape(changes):
    model = make_oracle(**changes)
    assert_parity(load(model), model, [1, 40, 130, 300])


@pytest.mark.parametrize("make", [make_oracle, make_masked_lm])
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
@pytest.mark.parametrize("new_dialect", [False, True])
def test_every_layout(tmp_path, make, shard, new_dialect):
    """Saved by transformers, read from the disk."""
    model = make(global_attn_every_n_layers=2, local_attention=32)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    if new_dialect:
        to_new_dialect(tmp_path)
    config = load_config(tmp_path)
    encoder = make_encoder(
        config,
        open_tensors(tmp_path, config),
        backend="cpu",
        precision="float32",
        gradient_checkpointing="auto",
    )
    assert_parity(encoder, encoder_of(model), [1, 40, 130])


def test_irregular_layer_types():
    model, changes = make_irregular()
    assert_parity(load(model, changes=changes), model, [1, 130, 300])


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published tokenizer")
def test_published_tokenizer():
    known = json.loads((PUBLISHED / "known_ids.json").read_text(encoding="utf8"))
    sequences = [np.array(ids) for _, ids in known]
    model = make_oracle(vocab_size=50368, pad_token_id=50283)
    d_outs = [np.full((len(ids), 32), 0.01, np.float32) for ids in sequences]
    d_outs = [d * np.arange(32, dtype=np.float32) for d in d_outs]
    wanted, gradients = run_oracle(model, sequences, d_outs)
    encoder = load(model)
    out, backprop = encoder.encode_train(PackedBatch.of(sequences))
    backprop(np.concatenate(d_outs))
    assert_close(out, np.concatenate(wanted), "hidden states")
    assert_gradients(encoder, gradients)


# Training


def test_gradient_checkpointing_changes_nothing(oracle, monkeypatch):
    # What "auto" would not recompute, since it is small.
    monkeypatch.setattr(checkpointing, "_AUTO_BYTES", 0)
    sequences, d_outs = draw([1, 130, 300])
    found = []
    for gradient_checkpointing in (False, True, "auto"):
        encoder = load(oracle, gradient_checkpointing=gradient_checkpointing)
        out, backprop = encoder.encode_train(PackedBatch.of(sequences))
        backprop(np.concatenate(d_outs))
        found.append({"out": out, **gradients_of(encoder)})
    for name, tensor in found[0].items():
        np.testing.assert_allclose(found[1][name], tensor, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(found[2][name], tensor, atol=1e-6, err_msg=name)


def test_gradients_add_up_over_batches(oracle):
    """Whatever the order of the backward passes."""
    sequences, d_outs = draw([1, 65, 130, 300])
    _, gradients = run_oracle(oracle, sequences, d_outs)
    encoder = load(oracle)
    passes = [encoder.encode_train(PackedBatch.of([ids]))[1] for ids in sequences]
    for i in (2, 0, 3, 1):
        passes[i](d_outs[i])
    assert_gradients(encoder, gradients)


def test_predicting_leaves_gradients_alone(oracle):
    sequences, d_outs = draw([65])
    _, gradients = run_oracle(oracle, sequences, d_outs)
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of(sequences))
    encoder.encode(draw_batch([130], seed=1))
    backprop(d_outs[0])
    assert_gradients(encoder, gradients)
    encoder.encode(draw_batch([130], seed=1))
    assert_gradients(encoder, gradients)


def test_the_embedding_of_padding_never_learns(oracle):
    """Its row has no gradient, also where a text says `[PAD]`."""
    ids = np.array([1, 3, 7, 3, 2])
    _, d_outs = draw([5])
    _, gradients = run_oracle(oracle, [ids], d_outs)
    encoder = load(oracle)
    _, backprop = encoder.encode_train(PackedBatch.of([ids]))
    backprop(d_outs[0])
    assert_gradients(encoder, gradients)
    assert not gradients_of(encoder)["embeddings.tok_embeddings.weight"][3].any()


# There and back


def test_tensors_are_those_that_went_in(oracle):
    tensors = load(oracle).tensors()
    assert list(tensors) == list(state(oracle))
    for name, tensor in state(oracle).items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_the_callers_tensors_are_left_alone(oracle):
    """By what an encoder learns, too."""
    tensors = state(oracle)
    before = {name: tensor.copy() for name, tensor in tensors.items()}
    config = ModernBertConfig.from_dict(oracle.config.to_dict())
    encoder = make_encoder(config, tensors, backend="cpu", precision="float32")
    sequences, d_outs = draw([65])
    _, backprop = encoder.encode_train(PackedBatch.of(sequences))
    backprop(d_outs[0])
    encoder.update(in_place)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(before[name], tensor, err_msg=name)
        assert (encoder.tensors()[name] != tensor).any(), name


def test_saved_and_loaded_by_transformers(tmp_path):
    """From our own fresh weights to transformers' hidden states."""
    from transformers import AutoModel

    data = {**make_oracle().config.to_dict(), "torch_dtype": "float32"}
    config = ModernBertConfig.from_dict(data)
    encoder = make_encoder(
        config,
        init_tensors(config, seed=0),
        backend="cpu",
        precision="float32",
        gradient_checkpointing="auto",
    )
    folder = tmp_path / "encoder"
    save_checkpoint(folder, config, encoder.tensors(), make_byte_tokenizer().to_str())
    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    assert_hidden_states(encoder, model, [1, 65, 300])


@pytest.mark.parametrize("lengths", [(300, 20, 700, 1, 255, 256, 800), (2000,)])
def test_a_batch_that_is_computed_in_parts(oracle, lengths, monkeypatch):
    """As one of the base shape is from 2,730 wordpieces on."""
    batch = draw_batch(lengths)
    encoder = load(oracle)
    rows = TokenRows(np.arange(batch.total), np.ones(batch.total, np.int64))
    whole = encoder.encode(batch)
    places, place = [], encoder._place
    monkeypatch.setattr(torch_encoder, "_LARGE_BYTES", 0)
    monkeypatch.setattr(
        encoder,
        "_place",
        lambda part, kernel: places.append(part.total) or place(part, kernel),
    )
    np.testing.assert_allclose(encoder.encode(batch), whole, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_tokens(batch, rows), whole, atol=1e-5)
    assert sum(places) == 2 * batch.total
    # A sequence is never cut.
    assert max(places) == max(lengths) and len(places) == 2 * (6 if lengths[1:] else 1)
