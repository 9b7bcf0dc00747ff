"""`python -m spacy modernbert encoder`: fresh checkpoints, and copies."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.util import fix_random_seed
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from spacy_modernbert.cli.encoder import make_checkpoint
from spacy_modernbert.corpora.roster import RosterSize, Stage, make_roster
from spacy_modernbert.documents.wordpieces import WordpieceTokenizer
from spacy_modernbert.embeddings import load_embedder
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors
from spacy_modernbert.encoder.config import SIZES_FOLDER
from spacy_modernbert.encoder.quantize import QuantizedTensors

from ..commands import done, failed, invoke
from ..encoder.util import make_masked_lm
from ..hub import answer_with
from ..pipelines import make_nlp, start, train
from ..scripts import run_python, succeeded
from ..util import contents, make_tokenizer, require

FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
TEXTS = ["The ship is called Brailo.", "", "naïve  \n\n[SEP] 蛇 👩‍🚀"]


def run(*arguments):
    return invoke("encoder", *arguments)


def make(name, output, corpus, *options):
    done(run(name, output, "--corpus", corpus, *options))
    return output


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("roster")
    stage = Stage(n_words=3_000, min_words=24, max_words=80, words_per_name=12)
    make_roster(RosterSize(train=(stage,), held_out=stage)).write(folder)
    return folder / "train.spacy"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, corpus) -> Path:
    """A fresh checkpoint. Not to be changed."""
    return make("tiny", tmp_path_factory.mktemp("encoders") / "tiny", corpus)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """As a hub has them: bfloat16, with a head, in shards, with files of other kinds.
    Not to be changed."""
    folder = tmp_path_factory.mktemp("published") / "model"
    model = make_masked_lm(vocab_size=512).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    make_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "[CLS]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text("{}")
    (folder / "optimizer.safetensors").write_bytes(b"huge")
    return folder


# -- Fresh ones -------------------------------------------------------------------


def test_it_is_a_command_of_spacy(corpus, fresh, tmp_path):
    """As a user runs it, with nothing imported before; and as in the other tests."""
    command = ["-m", "spacy", "modernbert", "encoder", "tiny", tmp_path / "out"]
    printed = succeeded(run_python(*command, "--corpus", corpus, cwd=tmp_path))
    assert "3 layers, 32 wide, a vocabulary of 512" in " ".join(printed.split())
    assert contents(tmp_path / "out") == contents(fresh)
    assert sorted(contents(fresh)) == FILES


def test_a_folder_of_the_name_of_a_size(corpus, checkpoint, tmp_path, monkeypatch):
    """Is what is meant, and that is said where it could be the size."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, tmp_path / "tiny")
    for name, said in (("tiny", True), ("./tiny", False)):
        found = done(run(name, "out", "--corpus", corpus, "--force"))
        assert load_config(tmp_path / "out") == load_config(checkpoint)
        assert ("'tiny' is a folder here, and is copied. For" in found) == said


def test_a_size_in_the_place_of_a_folder_of_its_name(corpus, tmp_path, monkeypatch):
    """Nothing would be made, whatever the corpus is now."""
    monkeypatch.chdir(tmp_path)
    make("tiny", "tiny", corpus)
    before = contents(tmp_path / "tiny")
    (tmp_path / "other.txt").write_text("Some other words.")
    for options in ([], ["--force"]):
        found = failed(run("tiny", "tiny", "--corpus", "other.txt", *options))
        assert "copied onto itself" in found and "remove or move the folder" in found
    assert contents(tmp_path / "tiny") == before


def test_options_that_a_copy_has_no_use_for(corpus, fresh, tmp_path):
    found = done(run(fresh, tmp_path / "a", "--corpus", corpus, "--seed", 1))
    assert (
        "A copy keeps its own tokenizer and weights. Not used: --corpus, --seed"
        in found
    )
    found = done(run(fresh, tmp_path / "b", "--configs", tmp_path))
    assert "Not used: --configs" in found
    assert "Not used" not in done(run(fresh, tmp_path / "c"))
    assert contents(tmp_path / "a") == contents(fresh)


def test_a_tokenizer_is_learned_from_all_over_a_large_corpus(monkeypatch):
    module = sys.modules[make_checkpoint.__module__]
    monkeypatch.setattr(module, "_MAX_CHARACTERS", 30)
    monkeypatch.setattr(module, "_PIECE", 10)
    texts = [f"{i:010}" for i in range(10)]
    found = list(module._thin_out(texts))
    assert len(found) == 3 and found == sorted(set(found) & set(texts))
    assert list(module._thin_out(texts[:3])) == texts[:3]
    # A text may be as long as all of them.
    assert list(module._thin_out(["".join(texts)])) == found


def test_a_tokenizer_is_learned_from_both_of_two_languages(monkeypatch):
    """Whose texts take turns."""
    module = sys.modules[make_checkpoint.__module__]
    monkeypatch.setattr(module, "_MAX_CHARACTERS", 500)
    texts = 500 * ["0", "1"]
    found = "".join(module._thin_out(texts))
    assert len(found) == 500
    assert 200 < found.count("0") < 300


def test_transformers_reads_it(fresh):
    model, info = AutoModel.from_pretrained(fresh, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.num_hidden_layers == 3
    theirs = AutoTokenizer.from_pretrained(fresh)
    ours = WordpieceTokenizer.from_file(fresh)
    for text in TEXTS[:2]:
        (pieces,) = ours([text])
        ids = [*ours.prefix_ids, *pieces.ids, *ours.suffix_ids]
        assert theirs(text)["input_ids"] == ids
    assert (theirs.cls_token, theirs.sep_token, theirs.pad_token) == (
        "[CLS]",
        "[SEP]",
        "[PAD]",
    )
    with torch.no_grad():
        hidden = model(**theirs(TEXTS[0], return_tensors="pt")).last_hidden_state
    assert torch.isfinite(hidden).all()


def test_its_tokenizer_takes_any_text(fresh):
    config = load_config(fresh)
    tokenizer = WordpieceTokenizer.from_file(fresh)
    assert tokenizer.vocab_size <= config.vocab_size
    assert config.vocab_size % 64 == 0
    for text, pieces in zip(TEXTS, tokenizer(TEXTS), strict=True):
        assert bool(text) == bool(len(pieces))
        assert not np.isin(pieces.ids, range(5)).any()  # nothing unknown, no [SEP]
    # It has learned some of the words of the corpus.
    text = "They spoke of the letter at supper."
    (pieces,) = tokenizer([text])
    assert len(pieces) < 0.6 * len(text)


def test_upper_full_attention_layers_start_with_matching_keys(tmp_path, corpus):
    folder = make("micro", tmp_path / "micro", corpus)
    config = load_config(folder)
    tensors = open_tensors(folder, config)
    for i, layer_type in enumerate(config.layer_types):
        query, key, _ = np.split(tensors[f"layers.{i}.attn.Wqkv.weight"], 3)
        matches = (query == key).all(axis=1).any()
        assert matches == (i > 0 and layer_type == "full_attention")


def test_it_trains(corpus, fresh):
    fix_random_seed(0)
    nlp = make_nlp(fresh)
    docs = list(DocBin().from_disk(corpus).get_docs(nlp.vocab))[:8]
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs]
    losses = train(nlp, examples, start(nlp, examples), steps=15)
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])


def test_the_seed_is_that_of_the_weights(corpus, fresh, tmp_path):
    other = make("tiny", tmp_path / "out", corpus, "--seed", 1)
    same = [name for name in FILES if contents(other)[name] == contents(fresh)[name]]
    assert same == [name for name in FILES if name != "model.safetensors"]


def test_it_takes_the_place_of_another(corpus, fresh, tmp_path):
    shutil.copytree(fresh, tmp_path / "out")
    (tmp_path / "out" / "model-00001-of-00002.safetensors").write_bytes(b"old")
    make("tiny", tmp_path / "out", corpus, "--force")
    assert contents(tmp_path / "out") == contents(fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("is_copy", [True, False])
def test_none_is_replaced_unasked(is_copy, corpus, fresh, published, tmp_path):
    """It may be hours of training."""
    shutil.copytree(published, tmp_path / "out")
    name = fresh if is_copy else "tiny"
    found = failed(run(name, tmp_path / "out", "--corpus", corpus))
    assert "--force to replace it" in " ".join(found.split())
    assert contents(tmp_path / "out") == contents(published)


def test_copy_a_pipeline(fresh, tmp_path):
    """What is meant is the encoder in it."""
    nlp = make_nlp(fresh)
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    found = failed(run(tmp_path / "nlp", tmp_path / "out"))
    encoder = tmp_path / "nlp" / "modernbert_ner" / "encoder"
    message = f"is a pipeline, not the checkpoint of an encoder. {encoder}"
    for part in message.split(". "):
        assert "".join(part.split()) in "".join(found.split())
    done(run(encoder, tmp_path / "out"))


def test_copy_what_was_pretrained(fresh, tmp_path):
    """What is meant is the checkpoint in the output of `pretrain`."""
    shutil.copytree(fresh, tmp_path / "run" / "encoder")
    (tmp_path / "run" / "config.cfg").write_text("[pretraining]\nseed = 0\n")
    found = failed(run(tmp_path / "run", tmp_path / "out"))
    assert "is the output of `modernbert pretrain`" in " ".join(found.split())
    with pytest.raises(ValueError, match="is the output of"):
        load_embedder(str(tmp_path / "run"))


@pytest.mark.parametrize("command", ["info", "evaluate", "export-onnx"])
def test_what_was_pretrained_elsewhere(command, corpus, fresh, tmp_path):
    """Where a pipeline is asked for, too, the message names the checkpoint."""
    if command == "export-onnx":
        require("onnx", reason="needs the extra onnx")
    shutil.copytree(fresh, tmp_path / "run" / "encoder")
    (tmp_path / "run" / "config.cfg").write_text("[pretraining]\nseed = 0\n")
    others = {"info": [], "evaluate": [corpus], "export-onnx": [tmp_path / "out"]}
    found = failed(invoke(command, tmp_path / "run", *others[command]))
    assert "is the output of `modernbert pretrain`" in found
    assert "".join(f"Its checkpoint is '{tmp_path}".split()) in "".join(found.split())


def test_special_wordpieces_are_those_of_its_tokenizer(corpus, tmp_path):
    """Whatever the size says: it may be the config of a published checkpoint."""
    size = json.loads((SIZES_FOLDER / "base.json").read_text())
    size.update(hidden_size=24, intermediate_size=16, num_hidden_layers=2)
    (tmp_path / "narrow.json").write_text(json.dumps(size))
    out = tmp_path / "out"
    done(run("narrow", out, "--corpus", corpus, "--configs", tmp_path))
    theirs = AutoTokenizer.from_pretrained(out)
    written = json.loads((out / "config.json").read_text())
    for name, token in (("cls", "cls"), ("bos", "cls"), ("sep", "sep"), ("eos", "sep")):
        assert written[f"{name}_token_id"] == getattr(theirs, f"{token}_token_id")
    assert written["pad_token_id"] == theirs.pad_token_id
    assert written["vocab_size"] < 1_500


# -- Copies -----------------------------------------------------------------------


def test_copy(published, tmp_path):
    done(run(published, tmp_path / "a" / "copy"))
    copy = tmp_path / "a" / "copy"
    assert sorted(contents(copy)) == FILES
    name = "tokenizer.json"
    assert (copy / name).read_text("utf8") == (published / name).read_text("utf8")
    assert AutoTokenizer.from_pretrained(copy).cls_token == "[CLS]"
    wanted = AutoModelForMaskedLM.from_pretrained(published).float().model.state_dict()
    found = AutoModel.from_pretrained(copy).state_dict()
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


def test_copy_what_is_quantized(checkpoint, tmp_path):
    """It stays so, and what is not quantized in it stays as exact as it was."""
    source, copy = tmp_path / "eight", tmp_path / "copy"
    done(invoke("convert", checkpoint, source, "--group-size", 32))
    done(run(source, copy))
    config = load_config(source)
    found, wanted = (open_tensors(folder, config) for folder in (copy, source))
    assert isinstance(found, QuantizedTensors)
    assert 0 < len(found.schemes) < len(found) and found.schemes == wanted.schemes
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    sizes = [(each / "model.safetensors").stat().st_size for each in (copy, source)]
    assert sizes[0] == sizes[1]


def test_copy_again(fresh, published, tmp_path):
    for source in (published, fresh):
        done(run(source, tmp_path / "copy", "--force"))
    assert contents(tmp_path / "copy") == contents(fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_copy_onto_itself(published, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(published, folder)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for name, output in ((folder, folder), ("./model", "model"), (folder, "link")):
        done(run(name, output, "--force"))
        assert contents(folder) == contents(published)


def test_copy_from_the_hub(published, tmp_path, monkeypatch):
    asked = answer_with(published, monkeypatch, name="owner/model")
    done(run("owner/model", tmp_path / "copy", "--revision", "abc123"))
    wanted = {("owner/model", "abc123")}
    assert {(each.name, each.revision) for each in asked} == wanted
    assert sorted(contents(tmp_path / "copy")) == FILES
    found = failed(run("owner/other", tmp_path / "other"))
    assert "'owner/other'isnotafolderhere" in "".join(found.split())
    assert not (tmp_path / "other").exists()


def test_a_folder_of_one_word(fresh, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(fresh, tmp_path / "mine")
    done(run("mine", "copy"))
    assert contents(tmp_path / "copy") == contents(fresh)


def test_a_corpus_of_several_files(corpus, fresh, tmp_path):
    """In a folder, of which the .spacy files are read."""
    (tmp_path / "corpus").mkdir()
    shutil.copy(corpus, tmp_path / "corpus" / "train.spacy")
    (tmp_path / "corpus" / "notes.md").write_text("none of it")
    found = make("tiny", tmp_path / "tiny", tmp_path / "corpus")
    assert contents(found) == contents(fresh)


# -- What is wrong ----------------------------------------------------------------


def no_corpus(folder, corpus):
    return ["tiny"], "there is no such file (--corpus is None)"


def missing_corpus(folder, corpus):
    path = folder / "nowhere.spacy"
    return ["tiny", "--corpus", path], f"(--corpus is {path})"


def text_for_corpus(folder, corpus):
    (folder / "x.spacy").write_text("Some text.")
    return ["tiny", "--corpus", folder / "x.spacy"], "cannot be read as a .spacy file"


def truncated_corpus(folder, corpus):
    (folder / "x.spacy").write_bytes(corpus.read_bytes()[:1_000])
    return ["tiny", "--corpus", folder / "x.spacy"], "cannot be read as a .spacy file"


def no_text(folder, corpus):
    (folder / "x.txt").write_text(" \n")
    return ["tiny", "--corpus", folder / "x.txt"], "There is no text in"


def no_docs(folder, corpus):
    import zlib

    (folder / "x.spacy").write_bytes(zlib.compress(b"\x80"))  # an empty msgpack map
    return ["tiny", "--corpus", folder / "x.spacy"], "cannot be read as a .spacy file"


def unknown_size(folder, corpus):
    return ["huge", "--corpus", corpus], "no size 'huge' in {sizes} (its sizes: base, l"


def sizes_elsewhere(folder, corpus):
    (folder / "none").mkdir()
    options = ["tiny", "--corpus", corpus, "--configs", folder / "none"]
    return options, f"no size 'tiny' in {folder / 'none'} (its sizes: none)"


def size(folder, corpus, content):
    (folder / "sizes").mkdir()
    (folder / "sizes" / "x.json").write_text(content)
    return ["x", "--corpus", corpus, "--configs", folder / "sizes"]


def size_not_json(folder, corpus):
    return size(folder, corpus, "{"), "x.json' cannot be read: Expecting property"


def size_not_object(folder, corpus):
    return size(folder, corpus, "[]"), "x.json' cannot be read: it is not an object"


def size_of_another_model(folder, corpus):
    return size(folder, corpus, '{"model_type": "bert"}'), "model_type 'bert'"


def size_negative(folder, corpus):
    content = '{"model_type": "modernbert", "hidden_size": -8}'
    return size(folder, corpus, content), "hidden_size = -8"


def missing_folder(folder, corpus):
    return [folder / "nowhere"], f"There is no folder '{folder / 'nowhere'}'"


def file_for_folder(folder, corpus):
    (folder / "x").write_text("text")
    return [folder / "x"], f"'{folder / 'x'}' is a file"


def empty_folder(folder, corpus):
    (folder / "x").mkdir()
    return [folder / "x"], "has no config.json"


def other_model(folder, corpus):
    (folder / "x").mkdir()
    (folder / "x" / "config.json").write_text('{"model_type": "roberta"}')
    return [folder / "x"], "model_type 'roberta'"


def no_tokenizer(folder, corpus):
    (folder / "x" / "tokenizer.json").unlink()
    return [folder / "x"], "has no tokenizer.json"


def no_tensors(folder, corpus):
    (folder / "x" / "model.safetensors").unlink()
    return [folder / "x"], "has no model.safetensors"


def truncated_tensors(folder, corpus):
    path = folder / "x" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return [folder / "x"], "not a valid safetensors file"


WRONG = [
    no_corpus,
    missing_corpus,
    text_for_corpus,
    truncated_corpus,
    no_text,
    no_docs,
    unknown_size,
    sizes_elsewhere,
    size_not_json,
    size_not_object,
    size_of_another_model,
    size_negative,
    missing_folder,
    file_for_folder,
    empty_folder,
    other_model,
    no_tokenizer,
    no_tensors,
    truncated_tensors,
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda function: function.__name__)
def test_wrong(wrong, corpus, fresh, tmp_path):
    """A clear message, nothing left behind, and what was there is still there."""
    if wrong in (no_tokenizer, no_tensors, truncated_tensors):
        shutil.copytree(fresh, tmp_path / "x")
    (name, *options), message = wrong(tmp_path, corpus)
    message = message.replace("{sizes}", str(SIZES_FOLDER))
    shutil.copytree(fresh, tmp_path / "there")
    before = sorted(tmp_path.rglob("*"))
    for output in (tmp_path / "not-there", tmp_path / "there"):
        found = failed(run(name, output, *options, "--force"))
        assert "".join(message.split()) in "".join(found.split())
    assert sorted(tmp_path.rglob("*")) == before
    assert contents(tmp_path / "there") == contents(fresh)


@pytest.mark.parametrize("copied", [True, False])
def test_nothing_else_is_replaced(copied, corpus, fresh, tmp_path):
    """A wrong path must not cost a folder of something else."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.txt").write_text("mine")
    (tmp_path / "notes").write_text("mine")
    for output, message in (
        (tmp_path / "thesis", "holds other files (chapter-1.txt)"),
        (tmp_path / "notes", "which is a file"),
    ):
        name = fresh if copied else "tiny"
        found = failed(run(name, output, "--corpus", corpus))
        assert "".join(message.split()) in "".join(found.split())
    assert contents(tmp_path / "thesis") == {"chapter-1.txt": b"mine"}
    assert (tmp_path / "notes").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2
