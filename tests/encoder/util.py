"""The oracle: transformers' ModernBERT with random weights, saved by itself."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import ModernBertConfig as HfConfig
from transformers import ModernBertForMaskedLM, ModernBertModel

from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.config import LAYER_TYPES, ModernBertConfig
from spacy_modernbert.encoder.protocol import Encoder
from spacy_modernbert.types import PackedBatch

from ..util import SPECIAL, gradients_of

SMALL: Dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "cls_token_id": 1,
    "bos_token_id": 1,
    "sep_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 3,
    # Large, so that attention looks at something: at 0.02 it is all but uniform,
    # and a wrong mask would hardly show.
    "initializer_range": 0.3,
    "attn_implementation": "sdpa",
}

# Models of every shape, by what they change of `SMALL`.
SHAPES: List[Dict[str, Any]] = [
    {"norm_bias": True, "attention_bias": True, "mlp_bias": True},
    {"norm_bias": True},
    {"num_hidden_layers": 1},
    {"global_attn_every_n_layers": 1},
    {"global_attn_every_n_layers": 2},
    {"local_attention": 2},
    {"local_attention": 1},
    {"local_attention": 33},
    {"local_attention": 150},
    {"local_attention": 512},
    {"local_attention": 8192},
    {"local_rope_theta": None},
    {"global_rope_theta": 1000.0, "local_rope_theta": 100.0},
    {"norm_eps": 0.1},
    {"num_attention_heads": 1},
    {"num_attention_heads": 16},
    {"intermediate_size": 7},
    {"pad_token_id": None},
]

# What of a config drops out in training.
DROPOUTS = {"attention_dropout": 0.2, "embedding_dropout": 0.2, "mlp_dropout": 0.2}


def make_oracle(seed: int = 0, **overrides: Any) -> ModernBertModel:
    """RETURNS (ModernBertModel): Random weights, norms and biases included."""
    torch.manual_seed(seed)
    model = ModernBertModel(HfConfig(**{**SMALL, **overrides}))
    return perturb(model).eval()


def make_irregular() -> Tuple[ModernBertModel, Dict[str, Any]]:
    """RETURNS (Tuple[ModernBertModel, Dict[str, Any]]): A model whose kinds of layers
    follow no rule, and what its config lacks. Only the new dialect can say it,
    which the oracle does not read: it gets its layers rearranged.
    """
    model = make_oracle(num_hidden_layers=3)
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    of_kind = {
        kind: (layer.attn.local_attention, layer.attn.rotary_emb)
        for kind, layer in zip(LAYER_TYPES, model.layers, strict=False)
    }
    for layer, kind in zip(model.layers, kinds, strict=True):
        layer.attn.local_attention, layer.attn.rotary_emb = of_kind[kind]
    return model, {"layer_types": kinds}


def make_masked_lm(seed: int = 0, **overrides: Any) -> ModernBertForMaskedLM:
    """RETURNS (ModernBertForMaskedLM): As published: a head, prefix "model."."""
    torch.manual_seed(seed)
    model = ModernBertForMaskedLM(HfConfig(**{**SMALL, **overrides}))
    return perturb(model).eval()


def perturb(model: torch.nn.Module) -> Any:
    """Away from the 1s and 0s of a fresh model, which would hide what is left out."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def encoder_of(model: torch.nn.Module) -> ModernBertModel:
    return model.model if isinstance(model, ModernBertForMaskedLM) else model


def state(model: torch.nn.Module) -> Dict[str, np.ndarray]:
    """RETURNS (Dict[str, np.ndarray]): The encoder's tensors, float32."""
    tensors = encoder_of(model).state_dict()
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def load(
    model: ModernBertModel,
    backend: str = "cpu",
    precision: str = "float32",
    changes: Optional[Dict[str, Any]] = None,
    **settings: Any,
) -> Encoder:
    """RETURNS (Encoder): With the model's weights, and its config with `changes`."""
    config = ModernBertConfig.from_dict({**model.config.to_dict(), **(changes or {})})
    return make_encoder(
        config, state(model), backend=backend, precision=precision, **settings
    )


def made_of(encoder: Any) -> Any:
    """RETURNS (Any): For how many threads an encoder that only predicts has made its
    graph, and the graph; None if it has not been needed yet.
    """
    return encoder._made._made


def open_all(folder: Path) -> Mapping[str, np.ndarray]:
    """RETURNS (Mapping[str, np.ndarray]): The tensors of a checkpoint."""
    return open_tensors(folder, load_config(folder))


def to_new_dialect(folder: Path) -> None:
    """Rewrite config.json as transformers 5 does: no key of the old dialect left."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    if "layer_types" in data:
        return
    every = data.pop("global_attn_every_n_layers")
    data["layer_types"] = [
        "sliding_attention" if layer % every else "full_attention"
        for layer in range(data["num_hidden_layers"])
    ]
    data["rope_parameters"] = {
        "full_attention": {
            "rope_theta": data.pop("global_rope_theta"),
            "rope_type": "default",
        },
        "sliding_attention": {
            "rope_theta": data.pop("local_rope_theta"),
            "rope_type": "default",
        },
    }
    data["dtype"] = data.pop("torch_dtype")
    data["transformers_version"] = "5.0.0"
    path.write_text(json.dumps(data))


def make_byte_tokenizer() -> Tokenizer:
    """RETURNS (Tokenizer): Byte-level, one wordpiece a byte, `[CLS] A [SEP]`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: i for i, text in enumerate(SPECIAL + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer


def draw_ids(rng: np.random.Generator, length: int, vocab_size: int = 300) -> Any:
    """RETURNS (np.ndarray): `(length,)`, `[CLS] ... [SEP]`, any between."""
    ids = rng.integers(0, vocab_size, length)
    ids[0] = 1
    ids[-1] = 2
    return ids


def draw(
    lengths: Sequence[int], seed: int = 0, width: int = 32, vocab_size: int = 300
) -> Tuple[List[np.ndarray], List[np.ndarray]]:
    """RETURNS (Tuple[List[np.ndarray], List[np.ndarray]]): Sequences, and for each the
    gradient of its hidden states, scaled so that the gradients of the parameters are of
    the size of the parameters.
    """
    rng = np.random.default_rng(seed)
    sequences = [draw_ids(rng, length, vocab_size) for length in lengths]
    scale = 1 / np.sqrt(sum(lengths))
    d_outs = [
        (scale * rng.standard_normal((length, width))).astype(np.float32)
        for length in lengths
    ]
    return sequences, d_outs


def draw_batch(
    lengths: Sequence[int], seed: int = 0, vocab_size: int = 300
) -> PackedBatch:
    """RETURNS (PackedBatch): The sequences of `draw`."""
    return PackedBatch.of(draw(lengths, seed, vocab_size=vocab_size)[0])


def hidden_states(
    model: ModernBertModel, sequences: Sequence[np.ndarray]
) -> np.ndarray:
    """RETURNS (np.ndarray): What the model makes of each sequence alone, one after the
    other: `(total, width)`.
    """
    with torch.no_grad():
        outs = [model(torch.from_numpy(ids)[None]) for ids in sequences]
    return np.concatenate([out.last_hidden_state[0].numpy() for out in outs])


def run_oracle(
    model: ModernBertModel, sequences: Sequence[np.ndarray], d_outs: Sequence[Any]
) -> Tuple[List[np.ndarray], Dict[str, np.ndarray]]:
    """Each sequence alone, so that nothing is padded.

    d_outs (Sequence[np.ndarray]): For each sequence `(length, width)`, the gradient
        of the loss with respect to its hidden states.
    RETURNS (Tuple[List[np.ndarray], Dict[str, np.ndarray]]): The hidden states, and
        the gradient of each parameter, summed over the sequences.
    """
    model.zero_grad(set_to_none=True)
    outs = []
    for ids, d_out in zip(sequences, d_outs, strict=True):
        hidden = model(torch.from_numpy(ids)[None]).last_hidden_state[0]
        hidden.backward(torch.from_numpy(d_out))
        outs.append(hidden.detach().numpy())
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    return outs, gradients


def attend_plainly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seqlens: torch.Tensor,
    longest: int,
    window: Tuple[int, int],
) -> torch.Tensor:
    """What a kernel of flash attention does, slow and plain."""
    assert cu_seqlens.dtype == torch.int32 and query.stride(-1) == 1
    assert longest == cu_seqlens.diff().max()
    index = torch.arange(query.shape[0], device=query.device)
    sequence = torch.bucketize(index, cu_seqlens[1:], right=True)
    mask = sequence[:, None] == sequence
    if window != (-1, -1):
        distance = index - index[:, None]
        mask &= (-window[0] <= distance) & (distance <= window[1])
    scores = torch.einsum("ihd,jhd->hij", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, value)


def bytes_kept(encoder: Encoder, batch: PackedBatch) -> int:
    """RETURNS (int): What an encoder in torch keeps of a pass for the way back."""
    kept = 0

    def pack_hook(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        encoder.encode_train(batch)
    return kept


def in_place(name: str, weights: Any, gradient: Any) -> Tuple[Any, Any]:
    """An optimizer that changes the array it is given."""
    weights -= 0.01 * gradient
    return weights, gradient


def into_new_arrays(name: str, weights: Any, gradient: Any) -> Tuple[Any, Any]:
    """An optimizer that leaves the array it is given as it is."""
    return weights - 0.01 * gradient, gradient


def assert_same(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]
) -> None:
    """The same tensors bit for bit, in the same order, in float32."""
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
        assert found[name].dtype == np.float32


def assert_close(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    """Within 1e-4; of the largest value, where that is above 1."""
    assert found.shape == wanted.shape, what
    error = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
    assert error <= 1e-4, f"{what}: off by {error}"


def assert_hidden_states(
    encoder: Encoder, model: ModernBertModel, lengths: Sequence[int]
) -> None:
    """The encoder predicts what the model does."""
    sequences, _ = draw(lengths, vocab_size=model.config.vocab_size)
    found = encoder.encode(PackedBatch.of(sequences))
    assert found.dtype == np.float32
    assert_close(found, hidden_states(model, sequences), "hidden states")


def assert_parity(
    encoder: Encoder,
    model: ModernBertModel,
    lengths: Sequence[int],
    assert_gradient: Callable[..., None] = assert_close,
) -> None:
    """The encoder predicts what the model does, and learns as the model does.

    assert_gradient (Callable): See `assert_gradients`.
    """
    config = model.config
    sequences, d_outs = draw(
        lengths, width=config.hidden_size, vocab_size=config.vocab_size
    )
    wanted, gradients = run_oracle(model, sequences, d_outs)
    batch = PackedBatch.of(sequences)
    found = encoder.encode(batch)
    assert found.dtype == np.float32
    trained, backprop = encoder.encode_train(batch)
    assert backprop(np.concatenate(d_outs)) is None
    assert_close(found, np.concatenate(wanted), "hidden states")
    assert_close(trained, np.concatenate(wanted), "hidden states in training")
    assert_gradients(encoder, gradients, assert_gradient)


def assert_gradients(
    encoder: Encoder,
    wanted: Dict[str, np.ndarray],
    assert_gradient: Callable[..., None] = assert_close,
) -> None:
    """The encoder has these gradients and no others.

    assert_gradient (Callable): Compares one with the wanted one, and is told its name.
    """
    found = gradients_of(encoder)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert_gradient(found[name], gradient, f"gradient of {name}")


def assert_rows_near(
    found: np.ndarray, wanted: np.ndarray, least: float, what: str = "hidden states"
) -> None:
    """Of another precision: rows point in the same directions, and are as long within
    5 %.

    least (float): The least cosine of a pair of rows.
    """
    assert found.shape == wanted.shape and found.dtype == np.float32, what
    cosine = cosines(found, wanted).min()
    assert cosine >= least, f"{what}: a cosine of {cosine}"
    lengths = np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
    error = np.abs(lengths - 1).max()
    assert error <= 0.05, f"{what}: too long or too short by {error:.1%}"


def assert_gradients_near(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], least: float
) -> None:
    """The same of gradients, each as one long row.

    least (float): The least cosine of a gradient.
    """
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert found[name].shape == gradient.shape, name
        assert_rows_near(found[name].ravel(), gradient.ravel(), least, name)


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """RETURNS (np.ndarray): The cosine of each pair of rows."""
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
    return (found * wanted).sum(-1) / norms
