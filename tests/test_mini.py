"""The encoder that comes with the project."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    ModernBertForMaskedLM,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.head import open_head
from spacy_modernbert.encoder.weights import count_weights

from .pipelines import layer_of, make_nlp
from .util import ROOT

MINI = ROOT / "assets" / "modernbert-mini"

# Not from a work that it has read.
TEXT = (
    "The clerk had been at his desk since early in the morning, and he was tired. He "
    "looked out of the window and saw the ships in the harbour, and the people who "
    "went up and down the street in the rain. At last he put on his hat and went out."
)


@pytest.fixture(scope="module")
def config():
    return load_config(MINI)


def test_shape(config):
    assert set(config.layer_types) == {"full_attention", "sliding_attention"}
    assert config.max_wordpieces == 8192
    assert config.global_rope_theta == 160_000 and config.local_rope_theta == 10_000
    n_weights = count_weights(config)
    assert 4_000_000 <= n_weights <= 10_000_000


def test_files():
    sizes = {path.name: path.stat().st_size for path in MINI.iterdir()}
    assert set(sizes) >= {
        "config.json", "model.safetensors", "tokenizer.json", "README.md",
    }  # fmt: skip
    assert sum(sizes.values()) <= 20e6


def test_tokenizer_loses_nothing(config):
    tokenizer = Tokenizer.from_file(str(MINI / "tokenizer.json"))
    text = "“Héllo,” said ‘Ψ’ — 10 µm\n\n\tof 中文 🎉"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    assert max(ids) < config.vocab_size


def test_weights_are_finite(config):
    tensors = open_tensors(MINI, config)
    head = open_head(MINI, config)
    assert head is not None
    for source in (tensors, head):
        for name in source:
            assert np.isfinite(np.asarray(source[name])).all(), name


def test_it_has_read_something():
    """transformers' own model predicts masked words with its weights."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MINI)
    model = ModernBertForMaskedLM.from_pretrained(
        MINI, attn_implementation="sdpa", torch_dtype=torch.float32
    ).eval()
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    n = ids.shape[1]
    # One is masked at a time, with all of the text as context.
    masked = ids.repeat(n, 1)
    positions = torch.arange(n)
    masked[positions, positions] = tokenizer.mask_token_id
    with torch.inference_mode():
        scores = model(masked[1:-1]).logits[positions[:-2], positions[1:-1]]
    accuracy = (scores.argmax(-1) == ids[0, 1:-1]).float().mean().item()
    # The commonest wordpiece of all is one in twenty.
    assert accuracy > 0.3


def test_in_a_pipeline(config):
    """Its vectors are those of transformers."""
    nlp = make_nlp(MINI, precision="float32")
    ner = nlp.get_pipe("modernbert_ner")
    ner.add_label("PERSON")
    nlp.initialize()
    vectors = layer_of(nlp).predict([nlp.make_doc(TEXT)]).vectors
    assert vectors.shape[1] == config.hidden_size
    model = ModernBertModel.from_pretrained(
        MINI, attn_implementation="sdpa", torch_dtype=torch.float32
    ).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MINI)
    with torch.inference_mode():
        (wanted,) = model(**tokenizer(TEXT, return_tensors="pt")).last_hidden_state
    np.testing.assert_allclose(vectors, wanted.numpy(), atol=1e-4)
