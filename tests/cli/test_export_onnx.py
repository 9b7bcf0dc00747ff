import json
import re
import shutil
import sys

import numpy as np
import pytest
import spacy
from transformers import AutoTokenizer

from spacy_modernbert.cli import export_onnx
from spacy_modernbert.encoder.backend import make_encoder
from spacy_modernbert.encoder.checkpoint import load_config, open_tensors

from ..commands import done, failed, invoke, words
from ..encoder.util import assert_rows_near, draw_batch
from ..pipelines import (
    add_own_code,
    change_settings,
    ner_config,
    nlp_of,
    shared_config,
)
from ..util import require, tok2vec_config

onnxruntime = require("onnxruntime", reason="needs the extra onnx")
require("onnx", reason="needs the extra onnx")

TEXT = "Anna Berg went to Oslo."
FILES = {
    "config.json",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
    "tokenizer_config.json",
}


def run(*arguments):
    return invoke("export-onnx", *arguments)


def use(folder, ids, cu_seqlens):
    """As anyone would use the files, without this package."""
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    inputs = {"input_ids": ids, "cu_seqlens": cu_seqlens}
    (hidden,) = session.run(["last_hidden_state"], inputs)
    return hidden


def draw(checkpoint):
    config = load_config(checkpoint)
    batch = draw_batch([1, 40, 300], seed=1, vocab_size=config.vocab_size)
    encoder = make_encoder(config, open_tensors(checkpoint, config), backend="cpu")
    return batch.ids, batch.cu_seqlens.astype(np.int64), encoder.encode(batch)


def test_it_compares_with_torch_whatever_pipelines_run_on(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    done(run(checkpoint, tmp_path / "onnx"))


@pytest.mark.parametrize("bits", [None, 8])
def test_checkpoint(checkpoint, tmp_path, bits):
    options = [] if bits is None else ["--bits", bits]
    found = done(run(checkpoint, tmp_path / "a" / "onnx", *options))
    assert "against torch, cosine" in found
    folder = tmp_path / "a" / "onnx"
    assert {path.name for path in folder.iterdir()} == FILES
    assert list((tmp_path / "a").iterdir()) == [folder]
    ids, cu_seqlens, wanted = draw(checkpoint)
    found = use(folder, ids, cu_seqlens)
    if bits is None:
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    else:
        assert_rows_near(found, wanted, 0.99)
        weights = (checkpoint / "model.safetensors").stat().st_size
        assert (folder / "model.onnx.data").stat().st_size < 0.3 * weights
        modes = {(folder / name).stat().st_mode for name in FILES}
        assert len(modes) == 1
    for name in ("tokenizer.json", "config.json"):
        wanted_file = json.loads((checkpoint / name).read_text("utf8"))
        assert json.loads((folder / name).read_text("utf8")) == wanted_file


def test_pipeline(trained, tmp_path):
    done(run(trained, tmp_path / "onnx"))
    ids, cu_seqlens, wanted = draw(trained / "modernbert_ner" / "encoder")
    found = use(tmp_path / "onnx", ids, cu_seqlens)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_one_of_several_components(trained, tmp_path):
    nlp = spacy.load(trained)
    nlp.add_pipe("modernbert_ner", name="other", source=spacy.load(trained))
    nlp.to_disk(tmp_path / "nlp")
    arguments = [tmp_path / "nlp", tmp_path / "onnx"]
    assert "with --component: modernbert_ner, other" in failed(run(*arguments))
    found = failed(run(*arguments, "--component", "x"))
    assert re.search(r"--component is '?x\b", found)
    done(run(*arguments, "--component", "other"))


def assert_exported(pipeline, output, checkpoint):
    done(run(pipeline, output))
    ids, cu_seqlens, wanted = draw(checkpoint)
    np.testing.assert_allclose(use(output, ids, cu_seqlens), wanted, atol=1e-4)


@pytest.mark.parametrize("shared", [False, True])
def test_a_component_of_spacy(checkpoint, tmp_path, monkeypatch, shared):
    """Its encoder is among its weights, or in a component that it listens to."""
    if shared:
        require("spacy_transformers")
        model = shared_config(checkpoint)
        nlp = nlp_of(transformer={"factory": "transformer", "model": model})
    else:
        nlp = nlp_of(ner=ner_config(tok2vec_config(checkpoint)))
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    assert_exported(tmp_path / "nlp", tmp_path / "onnx", checkpoint)
    # Whatever pipelines run on.
    monkeypatch.setenv("SPACY_MODERNBERT_BACKEND", "tpu")
    done(run(tmp_path / "nlp", tmp_path / "again"))


def test_code_of_ones_own(checkpoint, tmp_path):
    nlp = nlp_of(ner=ner_config(tok2vec_config(checkpoint)))
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    code = add_own_code(tmp_path / "nlp")
    arguments = [tmp_path / "nlp", tmp_path / "onnx"]
    assert "of_ones_own" in failed(run(*arguments))
    done(run(*arguments, "--code", code))


def test_of_a_pipeline_with_settings_of_its_own(checkpoint, tmp_path):
    """A quantization, say, which is none of what exports."""
    tok2vec = tok2vec_config(checkpoint, quantization={"bits": 8})
    nlp = nlp_of(ner=ner_config(tok2vec))
    nlp.initialize()
    nlp.to_disk(tmp_path / "nlp")
    quantization = {"bits": 4, "group_size": 32}
    change_settings(tmp_path / "nlp", "ner", backend="mlx", quantization=quantization)
    assert_exported(tmp_path / "nlp", tmp_path / "onnx", checkpoint)


def test_the_tokenizer_of_transformers_5(checkpoint, tmp_path):
    """It is read by transformers 4, as that of a checkpoint; also where there was no
    more than tokenizer.json.
    """
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text(encoding="utf8"))
    path.write_text(json.dumps({**told, "tokenizer_class": "TokenizersBackend"}))
    wanted = AutoTokenizer.from_pretrained(checkpoint)(TEXT)["input_ids"]
    for name in ("a", "b"):
        done(run(folder, tmp_path / name))
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        assert tokenizer(TEXT)["input_ids"] == wanted
        path.unlink(missing_ok=True)


def test_over_an_export(checkpoint, tmp_path):
    done(run(checkpoint, tmp_path / "onnx"))
    assert "There is an export" in failed(run(checkpoint, tmp_path / "onnx"))
    done(run(checkpoint, tmp_path / "onnx", "--force"))
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def wrong_bits(folder, checkpoint):
    return [checkpoint, folder / "out", "--bits", "4"], "--bits is 4"


def no_checkpoint(folder, checkpoint):
    return [folder / "nowhere", folder / "out"], "There is no folder"


def no_tensors(folder, checkpoint):
    shutil.copytree(checkpoint, folder / "x")
    (folder / "x" / "model.safetensors").unlink()
    return [folder / "x", folder / "out"], "has no model.safetensors"


def pipeline_without_encoder(folder, checkpoint):
    (folder / "x").mkdir()
    (folder / "x" / "config.cfg").write_text("[nlp]\n")
    return [folder / "x", folder / "out"], "has an encoder of this package"


def component_of_a_checkpoint(folder, checkpoint):
    return [checkpoint, folder / "out", "--component", "ner"], "is a checkpoint"


def other_files(folder, checkpoint):
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("mine")
    return [checkpoint, folder / "out"], "holds other files (thesis.txt)"


@pytest.mark.parametrize(
    "wrong",
    [
        wrong_bits,
        no_checkpoint,
        no_tensors,
        pipeline_without_encoder,
        component_of_a_checkpoint,
        other_files,
    ],
    ids=lambda function: function.__name__,
)
def test_wrong(wrong, checkpoint, tmp_path):
    """A clear message, and nothing is left behind."""
    arguments, message = wrong(tmp_path, checkpoint)
    before = sorted(tmp_path.rglob("*"))
    assert message in failed(run(*arguments))
    assert sorted(tmp_path.rglob("*")) == before


def test_no_arguments():
    result = run()
    assert result.exit_code == 2
    assert "Missing argument" in words(result)


def test_without_onnx_runtime(checkpoint, tmp_path, only_torch_installed):
    found = failed(run(checkpoint, tmp_path / "onnx"))
    assert 'pip install "spacy-modernbert[onnx]"' in found


@pytest.mark.parametrize(("error", "shown"), [(0.5, "5.0e-01"), (np.nan, "nan")])
def test_what_differs_is_not_written(checkpoint, tmp_path, monkeypatch, error, shown):
    module = sys.modules[export_onnx.__module__]
    far = module.Parity(least_cosine=0.9, mean_cosine=0.95, most_error=error)
    monkeypatch.setattr(module, "compare", lambda *arguments: far)
    found = failed(run(checkpoint, tmp_path / "onnx"))
    assert f"differs from torch by {shown}" in found
    assert not list(tmp_path.iterdir())
