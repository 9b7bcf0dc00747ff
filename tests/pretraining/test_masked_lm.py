"""The oracle is transformers' `ModernBertForMaskedLM`."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from transformers import ModernBertForMaskedLM

from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    save_checkpoint,
)
from spacy_modernbert.encoder.head import head_shapes, init_head, open_head
from spacy_modernbert.encoder.quantize import Scheme, quantize
from spacy_modernbert.encoder.torch.flash import FlashAttention
from spacy_modernbert.pretraining import masked_lm
from spacy_modernbert.pretraining.masked_lm import MaskedLM
from spacy_modernbert.pretraining.masking import Masking
from spacy_modernbert.types import PackedBatch

from ..encoder.util import (
    assert_close,
    attend_plainly,
    draw_ids,
    make_byte_tokenizer,
    make_masked_lm,
)

VARIANTS = [
    {},
    {"classifier_bias": True, "norm_bias": True, "mlp_bias": True},
    {"decoder_bias": False},
]


def save(tmp_path, **overrides):
    oracle = make_masked_lm(**overrides)
    oracle.save_pretrained(tmp_path)
    return oracle


def load(folder, dtype=torch.float32):
    config = load_config(folder)
    head = open_head(folder, config)
    return MaskedLM.from_tensors(
        config, open_tensors(folder, config), head, torch.device("cpu"), dtype
    )


@pytest.mark.parametrize("overrides", VARIANTS)
def test_scores_and_gradients(tmp_path, overrides):
    oracle = save(tmp_path, **overrides)
    model = load(tmp_path)
    rng = np.random.default_rng(0)
    sequences = [draw_ids(rng, length) for length in (7, 150, 40)]
    masking = Masking(0.3, 4, np.arange(5), 300)
    masked = masking.mask(PackedBatch.of(sequences), rng)
    loss, n_correct = model.score(masked)
    loss.backward()
    wanted = []
    cu = masked.batch.cu_seqlens
    for start, end in itertools.pairwise(cu):
        ids = torch.from_numpy(masked.batch.ids[start:end])[None]
        wanted.append(oracle(ids).logits[0])
    scores = torch.cat(wanted)[masked.positions]
    targets = torch.from_numpy(masked.targets)
    oracle_loss = torch.nn.functional.cross_entropy(scores, targets, reduction="sum")
    oracle_loss.backward()
    assert loss.item() == pytest.approx(oracle_loss.item(), rel=1e-5)
    assert int(n_correct) == int((scores.argmax(-1) == targets).sum())
    gradients = dict(oracle.named_parameters())
    assert set(gradients) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad.numpy(), gradients[name].grad.numpy(), name)


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_transformers_reads_what_is_written(tmp_path, dtype):
    oracle = save(tmp_path / "old")
    model = load(tmp_path / "old")
    save_checkpoint(
        tmp_path / "new",
        model.config,
        model.tensors(),
        make_byte_tokenizer().to_str(),
        head=model.head_tensors(),
        dtype=dtype,
    )
    reread, info = ModernBertForMaskedLM.from_pretrained(
        tmp_path / "new", output_loading_info=True, torch_dtype=torch.float32
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tolerance = 0 if dtype == "F32" else 1e-3
    for name, tensor in oracle.state_dict().items():
        torch.testing.assert_close(
            reread.state_dict()[name], tensor, rtol=tolerance, atol=tolerance
        )
    size = (tmp_path / "new" / "model.safetensors").stat().st_size
    n_weights = sum(each.numel() for each in model.parameters())
    assert size == pytest.approx(n_weights * {"F32": 4, "F16": 2}[dtype], rel=0.05)


def test_an_encoder_of_a_model_that_was_not_tied(tmp_path):
    """With its new head, it is tied, and says so."""
    untied = save(tmp_path / "untied", tie_word_embeddings=False)
    untied.model.save_pretrained(tmp_path / "old")
    config = load_config(tmp_path / "old")
    tensors = open_tensors(tmp_path / "old", config)
    save_checkpoint(
        tmp_path / "new",
        config,
        tensors,
        make_byte_tokenizer().to_str(),
        head=init_head(config, seed=0),
    )
    reread, info = ModernBertForMaskedLM.from_pretrained(
        tmp_path / "new", output_loading_info=True
    )
    assert not info["missing_keys"]
    table = torch.from_numpy(tensors["embeddings.tok_embeddings.weight"])
    torch.testing.assert_close(reread.decoder.weight.detach(), table)


def test_an_encoder_alone_has_no_head(tmp_path):
    save(tmp_path).model.save_pretrained(tmp_path / "encoder")
    config = load_config(tmp_path / "encoder")
    assert open_head(tmp_path / "encoder", config) is None
    fresh = init_head(config, seed=0)
    assert {name: each.shape for name, each in fresh.items()} == head_shapes(config)


def test_a_quantized_head(tmp_path):
    """In the layout of MLX, as the encoder's weights may be."""
    save(tmp_path)
    config = load_config(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_arrays(path)
    exact = tensors["head.dense.weight"]
    made = quantize(exact, Scheme(8, 32))
    tensors["head.dense.weight"] = made.words
    tensors["head.dense.scales"] = made.scales
    tensors["head.dense.biases"] = made.biases
    save_arrays(tensors, path)
    head = open_head(tmp_path, config)
    assert set(head) == set(head_shapes(config))
    np.testing.assert_allclose(head["head.dense.weight"], exact, atol=2e-3)
    assert not np.array_equal(head["head.dense.weight"], exact)
    np.testing.assert_array_equal(head["decoder.bias"], tensors["decoder.bias"])


def test_a_decoder_with_weights_of_its_own(tmp_path):
    save(tmp_path, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="tie_word_embeddings is false"):
        open_head(tmp_path, load_config(tmp_path))


def test_a_head_of_another_kind(tmp_path):
    """Of the same names, and made for something else or computed otherwise."""
    save(tmp_path / "lm", decoder_bias=False)
    config = load_config(tmp_path / "lm")
    assert open_head(tmp_path / "lm", config) is not None
    path = tmp_path / "lm" / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "classifier.weight": torch.ones(2, 16)}, path)
    assert open_head(tmp_path / "lm", config) is None
    save(tmp_path / "silu", classifier_activation="silu")
    with pytest.raises(ValueError, match="classifier_activation 'silu'"):
        open_head(tmp_path / "silu", load_config(tmp_path / "silu"))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_flash_attention_is_taken_where_it_is(tmp_path, monkeypatch, dropout):
    """As without it, but where attention drops out, which it cannot."""
    save(tmp_path, attention_dropout=dropout)
    calls = []

    def count(*args):
        calls.append(args)
        return attend_plainly(*args)

    rng = np.random.default_rng(0)
    batch = PackedBatch.of([draw_ids(rng, length) for length in (5, 300, 40)])
    masked = Masking(0.3, 4, np.arange(5), 300).mask(batch, rng)
    found = []
    for kernel in (None, FlashAttention("plain", count)):
        monkeypatch.setattr(
            masked_lm, "find_flash_attention", lambda *args, to_train, k=kernel: k
        )
        model = load(tmp_path)
        torch.manual_seed(0)
        loss, _ = model.score(masked)
        loss.backward()
        found.append((loss.item(), model.table.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert_close(found[1][1].numpy(), found[0][1].numpy(), "table")
    assert len(calls) == (0 if dropout else model.config.num_hidden_layers)


def test_norms_are_in_float32(tmp_path):
    """CUDA norms nothing that is not in the precision of the weights."""
    save(tmp_path)
    model = load(tmp_path, torch.bfloat16)
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(
                lambda module, args, output: seen.append((args[0].dtype, output.dtype))
            )
    rng = np.random.default_rng(0)
    batch = PackedBatch.of([draw_ids(rng, 40)])
    loss, _ = model.score(Masking(0.3, 4, np.arange(5), 300).mask(batch, rng))
    loss.backward()
    assert len(seen) > 3 and set(seen) == {(torch.float32, torch.float32)}


def test_lengths_that_are_rounded_up_change_nothing(tmp_path, monkeypatch):
    """In bfloat16 on the CPU: wordpieces behind the batch see and teach nothing."""
    save(tmp_path)
    rng = np.random.default_rng(0)
    batch = PackedBatch.of([draw_ids(rng, 40), draw_ids(rng, 30)])
    masked = Masking(0.3, 4, np.arange(5), 300).mask(batch, rng)
    found = []
    for rounds in (False, True):
        monkeypatch.setattr(masked_lm, "counts_shapes", lambda *_, to=rounds: to)
        model = load(tmp_path)
        loss, n_correct = model.score(masked)
        loss.backward()
        found.append((loss.item(), n_correct.item(), model.table.grad))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert found[1][1] == found[0][1]
    assert_close(found[1][2].numpy(), found[0][2].numpy(), "table")
