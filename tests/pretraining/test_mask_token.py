import json

import pytest
from tokenizers import Tokenizer

from spacy_modernbert.encoder.checkpoint import load_config, save_checkpoint
from spacy_modernbert.encoder.weights import init_tensors
from spacy_modernbert.pretraining.run import Pretraining

from ..encoder.util import make_byte_tokenizer
from .util import make_settings


def test_a_tokenizer_without_a_mask(paths, tmp_path):
    config = load_config(paths / "encoder")
    text = make_byte_tokenizer().to_str().replace("[MASK]", "[HIDE]")
    assert Tokenizer.from_str(text)
    save_checkpoint(tmp_path / "start", config, init_tensors(config, 0), text)
    with pytest.raises(ValueError, match="neither"):
        Pretraining(make_settings(paths, encoder=str(tmp_path / "start")), tmp_path)


def test_what_is_around_a_sequence_is_not_masked(paths, tmp_path):
    """Nor a mask of the text itself, be it flagged as special or not."""
    config = load_config(paths / "encoder")
    told = json.loads(make_byte_tokenizer().to_str())
    for token in told["added_tokens"]:
        token["special"] = False
    tensors = init_tensors(config, 0)
    save_checkpoint(tmp_path / "start", config, tensors, json.dumps(told))
    settings = make_settings(paths, encoder=str(tmp_path / "start"))
    run = Pretraining(settings, tmp_path / "run")
    tokenizer = run._tokenizer
    assert tokenizer.prefix_ids and tokenizer.suffix_ids
    around = {*tokenizer.prefix_ids, *tokenizer.suffix_ids, run._masking.mask_id}
    assert around <= set(run._masking.special_ids.tolist())


def test_a_mask_of_another_name(paths, tmp_path):
    """As that of llm-jp, which its tokenizer_config.json names."""
    config = load_config(paths / "encoder")
    text = make_byte_tokenizer().to_str().replace("[MASK]", "<mask|LLM-jp>")
    mask = {"content": "<mask|LLM-jp>", "lstrip": True}
    for i, told in enumerate(("<mask|LLM-jp>", mask)):
        folder = tmp_path / str(i)
        tensors = init_tensors(config, 0)
        save_checkpoint(folder, config, tensors, text, {"mask_token": told})
        run = Pretraining(make_settings(paths, encoder=str(folder)), tmp_path / "run")
        mask_id = Tokenizer.from_str(text).token_to_id("<mask|LLM-jp>")
        assert run._masking.mask_id == mask_id
