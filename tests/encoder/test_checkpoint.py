import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from spacy_modernbert.encoder.checkpoint import (
    load_config,
    open_tensors,
    read_tokenizer_config,
    read_tokenizer_json,
    save_checkpoint,
    tensors_from_bytes,
    tensors_to_bytes,
    write_tokenizer,
)
from spacy_modernbert.encoder.config import ModernBertConfig
from spacy_modernbert.encoder.weights import expected_shapes

from ..util import contents, make_checkpoint
from .util import (
    assert_same,
    make_byte_tokenizer,
    make_masked_lm,
    make_oracle,
    open_all,
    state,
    to_new_dialect,
)

BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True}
TOKENIZER_JSON = make_byte_tokenizer().to_str()


def edit_tensors(folder, edit):
    """Change the tensors of a checkpoint in the file."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def edit_json(path, edit):
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


# Reading what transformers wrote


@pytest.mark.parametrize("biases", [{}, BIASES], ids=["plain", "biases"])
@pytest.mark.parametrize("make", [make_oracle, make_masked_lm])
@pytest.mark.parametrize("shard", ["5GB", "20KB"])
@pytest.mark.parametrize("new_dialect", [False, True])
def test_reads_every_layout(tmp_path, make, biases, shard, new_dialect):
    model = make(**biases)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "5GB")
    if new_dialect:
        to_new_dialect(tmp_path)
    config = load_config(tmp_path)
    tensors = open_tensors(tmp_path, config)
    assert_same(tensors, state(model))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == expected_shapes(config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_reads_every_dtype(tmp_path, dtype):
    model = make_oracle().to(dtype)
    model.save_pretrained(tmp_path)
    assert_same(open_all(tmp_path), state(model))


def test_a_single_file_comes_before_shards(tmp_path):
    model = make_oracle()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert_same(open_all(tmp_path), state(model))


def test_a_shard_of_a_head_is_not_needed(tmp_path):
    model = make_masked_lm()
    model.save_pretrained(tmp_path, max_shard_size="20KB")

    def move_head(index):
        for name in index["weight_map"]:
            if name.startswith(("head.", "decoder.")):
                index["weight_map"][name] = "model-of-the-head.safetensors"

    edit_json(tmp_path / "model.safetensors.index.json", move_head)
    assert_same(open_all(tmp_path), state(model))


def test_other_heads_and_computed_tensors_are_left_out(folder, oracle):
    def add(tensors):
        tensors["classifier.weight"] = torch.zeros(2, 32)
        tensors["ids"] = torch.arange(3)
        tensors["layers.0.attn.rotary_emb.inv_freq"] = torch.zeros(4)

    edit_tensors(folder, add)
    assert_same(open_all(folder), state(oracle))


def test_reads_the_tokenizer(folder):
    assert json.loads(read_tokenizer_json(folder)) == json.loads(TOKENIZER_JSON)
    assert read_tokenizer_config(folder) is None
    (folder / "special_tokens_map.json").write_text('{"cls_token": "a", "x": 1}')
    (folder / "tokenizer_config.json").write_text('{"cls_token": "b", "auto_map": {}}')
    assert read_tokenizer_config(folder) == {"cls_token": "b", "x": 1}


# Writing


@pytest.mark.parametrize("biases", [{}, BIASES], ids=["plain", "biases"])
def test_transformers_reads_what_we_write(tmp_path, biases):
    model = make_oracle(global_attn_every_n_layers=2, local_attention=16, **biases)
    config = ModernBertConfig.from_dict(model.config.to_dict())
    save_checkpoint(tmp_path / "new" / "folder", config, state(model), TOKENIZER_JSON)
    folder = tmp_path / "new" / "folder"
    again, info = AutoModel.from_pretrained(
        folder, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not any(info.values())
    assert_same(state(again), state(model))
    assert again.config.global_attn_every_n_layers == 2
    ids = torch.arange(4, 200)[None]
    with torch.no_grad():
        found = again.eval()(ids).last_hidden_state
        wanted = model(ids).last_hidden_state
    assert torch.equal(found, wanted)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_transformers_reads_the_tokenizer_we_write(tmp_path, folder):
    save_checkpoint(
        tmp_path / "a", load_config(folder), open_all(folder), TOKENIZER_JSON
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer("ab")["input_ids"] == make_byte_tokenizer().encode("ab").ids
    assert tokenizer.model_max_length == 8192
    assert (tokenizer.cls_token, tokenizer.sep_token) == ("[CLS]", "[SEP]")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("[PAD]", "[UNK]")
    assert tokenizer.mask_token == "[MASK]"


def test_the_original_tokenizer_config_is_kept(tmp_path, folder):
    original = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 77,
        "cls_token": "[CLS]",
        "note": "é",
    }
    save_checkpoint(
        tmp_path / "a", load_config(folder), open_all(folder), TOKENIZER_JSON, original
    )
    assert read_tokenizer_config(tmp_path / "a") == original


def test_the_tokenizer_config_of_transformers_5_is_put_in_words_of_4(tmp_path, folder):
    new = {
        "backend": "tokenizers",
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["[MASK]"],
        "pad_token": "[PAD]",
    }
    save_checkpoint(
        tmp_path / "a", load_config(folder), open_all(folder), TOKENIZER_JSON, new
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer.pad_token == "[PAD]"
    assert tokenizer.all_special_tokens == ["[PAD]", "[MASK]"]


def test_no_code_is_named(tmp_path, folder):
    """transformers would run it: it is neither read nor written."""
    named = {"auto_map": {"AutoTokenizer": ["evil--code.Tokenizer", None]}}
    write_tokenizer(tmp_path, load_config(folder), TOKENIZER_JSON, {**named, "a": 1})
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written == {"a": 1}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**named, "a": 1}))
    assert read_tokenizer_config(tmp_path) == {"a": 1}


def test_unknown_keys_of_the_config_survive(tmp_path, folder):
    edit_json(folder / "config.json", lambda data: data.update(id2label={"0": "PER"}))
    save_checkpoint(
        tmp_path / "a", load_config(folder), open_all(folder), TOKENIZER_JSON
    )
    written = json.loads((tmp_path / "a" / "config.json").read_text())
    assert written["id2label"] == {"0": "PER"}
    assert load_config(tmp_path / "a") == load_config(folder)


def test_saves_over_the_folder_it_reads_from(folder, oracle):
    save_checkpoint(folder, load_config(folder), open_all(folder), TOKENIZER_JSON)
    assert_same(open_all(folder), state(oracle))
    assert sorted(os.listdir(folder.parent)) == ["checkpoint"]


def test_saves_through_a_link(tmp_path, folder, oracle):
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    link = tmp_path / "link"
    save_checkpoint(link, load_config(link), open_all(link), TOKENIZER_JSON)
    assert link.is_symlink()
    assert_same(open_all(folder), state(oracle))


def test_saves_into_an_empty_folder(tmp_path, folder):
    (tmp_path / "a").mkdir()
    save_checkpoint(
        tmp_path / "a", load_config(folder), open_all(folder), TOKENIZER_JSON
    )
    assert load_config(tmp_path / "a") == load_config(folder)


def _missing(tensors):
    del tensors["final_norm.weight"]


def _misshapen(tensors):
    tensors["final_norm.weight"] = tensors["final_norm.weight"][:-1]


@pytest.mark.parametrize(
    "spoil,message",
    [
        (_missing, "no tensor final_norm.weight"),
        (_misshapen, r"final_norm.weight has the shape \(31,\).*\(32,\)"),
    ],
)
def test_the_old_checkpoint_stays_when_saving_fails(folder, oracle, spoil, message):
    before = contents(folder)
    tensors = state(oracle)
    spoil(tensors)
    with pytest.raises(ValueError, match=message):
        save_checkpoint(folder, load_config(folder), tensors, TOKENIZER_JSON)
    assert contents(folder) == before
    assert os.listdir(folder.parent) == ["checkpoint"]


def test_the_old_checkpoint_comes_back_when_the_swap_fails(folder, oracle, monkeypatch):
    rename = os.rename

    def fail_once(source, target):
        if str(source).endswith(".tmp"):
            raise PermissionError("in use")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(PermissionError):
        save_checkpoint(folder, load_config(folder), state(oracle), TOKENIZER_JSON)
    assert_same(open_all(folder), state(oracle))
    assert os.listdir(folder.parent) == ["checkpoint"]


def test_other_peoples_files_are_not_replaced(folder, oracle):
    (folder / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(README.md\)"):
        save_checkpoint(folder, load_config(folder), state(oracle), TOKENIZER_JSON)
    assert (folder / "README.md").read_text() == "mine"
    with pytest.raises(ValueError, match=r"README.md', which is a file"):
        save_checkpoint(
            folder / "README.md", load_config(folder), state(oracle), TOKENIZER_JSON
        )


def test_bytes_round_trip(folder, oracle):
    config = load_config(folder)
    data = tensors_to_bytes(state(oracle), config)
    assert_same(tensors_from_bytes(data, config), state(oracle))
    # The same file as on the disk.
    save_checkpoint(folder, config, state(oracle), TOKENIZER_JSON)
    assert (folder / "model.safetensors").read_bytes() == data


def test_a_name_in_the_place_of_bytes(folder):
    """No other file is read because a serialized model names it."""
    path = str(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"^The serialized encoder is not .* a str"):
        tensors_from_bytes(path, load_config(folder))


# Errors


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def tensors(edit):
    return lambda folder: edit_tensors(folder, edit)


def config(**changes):
    return lambda folder: edit_json(
        folder / "config.json", lambda data: data.update(changes)
    )


@pytest.mark.parametrize(
    "spoil,message",
    [
        (remove("config.json"), r"checkpoint' has no config\.json"),
        (write("config.json", "{"), r"config\.json' cannot be read: Expecting"),
        (write("config.json", "1" * 5_000), r"config\.json' cannot be read: Exceeds"),
        (write("config.json", "[" * 100_000), r"config\.json' cannot be read: max"),
        (write("config.json", "[]"), r"config\.json' cannot be read: it is not an obj"),
        (config(model_type="roberta"), "model_type 'roberta'"),
        (remove("model.safetensors"), r"has no model\.safetensors.*pytorch_model\.bin"),
        (write("model.safetensors", "x"), r"model\.safetensors' is not a valid"),
        (cut, r"model\.safetensors' is not a valid.*not fully covered"),
        (
            tensors(lambda t: t.pop("layers.2.attn.Wo.weight")),
            r"lacks 1 of the encoder's 26 tensors.*layers\.2\.attn\.Wo\.weight",
        ),
        (
            tensors(lambda t: t.update({"final_norm.weight": torch.ones(31)})),
            r"final_norm\.weight in the shape \(31,\).*should be \(32,\)",
        ),
        (
            tensors(
                lambda t: t.update(
                    {"final_norm.weight": torch.ones(32, dtype=torch.int64)}
                )
            ),
            r"final_norm\.weight as I64, but only F64, F32, F16, BF16",
        ),
        (
            tensors(lambda t: t.update({"final_norm.bias": torch.ones(32)})),
            r"has 1 tensors that .* not use, the first being final_norm\.bias",
        ),
        (
            tensors(lambda t: t.update({"model.final_norm.weight": torch.ones(32)})),
            r"final_norm\.weight twice",
        ),
        (
            config(num_hidden_layers=3, layer_types=None),
            r"has 6 tensors that .*layers\.3\.attn",
        ),
        (
            config(num_hidden_layers=5, layer_types=None),
            r"lacks 6 of the encoder's 32 tensors",
        ),
        (config(vocab_size=299), r"\(300, 32\).*should be \(299, 32\)"),
    ],
)
def test_spoilt_checkpoints(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        open_all(folder)


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"checkpoint' has no tokenizer\.json"):
        read_tokenizer_json(folder)


def test_a_tokenizer_that_is_not_utf8(folder):
    text = (folder / "tokenizer.json").read_text(encoding="utf8")
    (folder / "tokenizer.json").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=r"tokenizer\.json' cannot be read: 'utf-8'"):
        read_tokenizer_json(folder)


INDEX = "model.safetensors.index.json"


def drop_shard(folder):
    shutil.move(next(folder.glob("model-00002*")), folder / "elsewhere")


def swap_shards(folder):
    def swap(index):
        names = sorted(set(index["weight_map"].values()))
        index["weight_map"]["final_norm.weight"] = names[0]

    edit_json(folder / INDEX, swap)


def leave_folder(folder):
    def point_outside(index):
        index["weight_map"]["final_norm.weight"] = "../model.safetensors"

    (folder.parent / "model.safetensors").write_bytes(b"")
    edit_json(folder / INDEX, point_outside)


def move_into_subfolder(folder):
    def move(index):
        index["weight_map"]["final_norm.weight"] = "weights/last.safetensors"

    (folder / "weights").mkdir()
    (folder / "weights" / "last.safetensors").write_bytes(b"")
    edit_json(folder / INDEX, move)


@pytest.mark.parametrize(
    "spoil,message",
    [
        (drop_shard, r"names the file model-00002-of.*is not there"),
        (swap_shards, r"final_norm\.weight in the file model-00001.*not hold it"),
        (
            leave_folder,
            r"names the file \.\./model\.safetensors, and only files beside",
        ),
        (move_into_subfolder, r"weights/last.safetensors, and only files beside"),
        (write(INDEX, "{}"), "it has no weight_map"),
        (write(INDEX, '{"weight_map": {"final_norm.weight": 3}}'), "names the file 3"),
        (write(INDEX, '{"weight_map": {}}'), "lacks 26 of the encoder's 26"),
    ],
)
def test_spoilt_shards(folder, oracle, spoil, message):
    (folder / "model.safetensors").unlink()
    oracle.save_pretrained(folder, max_shard_size="20KB")
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        open_all(folder)


def test_half_of_a_pair_of_surrogates(tmp_path):
    """JSON can name it, and UTF-8 cannot."""
    folder = make_checkpoint(tmp_path / "before")
    edit_json(folder / "config.json", lambda data: data.update(note='\\"\ud83d'))
    config = load_config(folder)
    tensors = open_tensors(folder, config)
    save_checkpoint(tmp_path / "after", config, tensors, read_tokenizer_json(folder))
    assert load_config(tmp_path / "after") == config
    assert json.loads((tmp_path / "after" / "config.json").read_text())["note"] == (
        '\\"\ud83d'
    )
