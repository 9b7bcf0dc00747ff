import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import spacy
import srsly
from spacy.pipeline import EntityRecognizer
from spacy.training import Example
from thinc.api import Adam, Config, Model, fix_random_seed

from spacy_modernbert import components
from spacy_modernbert.encoder.checkpoint import load_config
from spacy_modernbert.layers.products import TorchProducts

from .commands import done, invoke
from .pipelines import (
    draw_scores,
    layer_of,
    load_with,
    loaded_encoder,
    lstm_nlp,
    make_nlp,
    ner_config,
    nlp_of,
    shim_of,
    train_ner,
)
from .scripts import run_script
from .util import (
    TEXTS,
    contents,
    count_passes,
    entities,
    make_checkpoint,
    make_examples,
    require,
    some_entities,
    tok2vec_config,
)


def tok2vec_of(nlp, name="modernbert_ner"):
    """Without the projection that the parser adds."""
    return nlp.get_pipe(name).model.get_ref("tok2vec").layers[0]


# -- The factory ----------------------------------------------------------------


def test_a_name_is_all_that_is_needed():
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(
        "modernbert_ner", config={"model": {"tok2vec": {"name": "a/model"}}}
    )
    assert isinstance(pipe, EntityRecognizer)
    assert shim_of(nlp).settings.name == "a/model"
    written = nlp.config["components"]["modernbert_ner"]
    wanted = Config(components.DEFAULT_CONFIG["modernbert_ner"]).copy()
    wanted["model"]["tok2vec"]["name"] = "a/model"
    assert written["model"]["tok2vec"] == wanted["model"]["tok2vec"]


def test_stock_ner_has_the_same_settings():
    """What a `ner` can be told, a `modernbert_ner` can, and one thing more."""
    nlp = spacy.blank("en")
    stock = nlp.get_factory_meta("ner")
    ours = nlp.get_factory_meta("modernbert_ner")
    own = {"set_doc_vector"}
    assert set(ours.default_config) - own == set(stock.default_config)
    assert set(ours.default_config["model"]) == set(stock.default_config["model"])
    for attribute in ("assigns", "requires", "retokenizes", "default_score_weights"):
        assert getattr(ours, attribute) == getattr(stock, attribute)


def test_fill_config(tmp_path):
    """`init fill-config`, from a config that says no more than it must."""
    from spacy.cli.init_config import fill_config

    (tmp_path / "base.cfg").write_text(
        '[nlp]\nlang = "en"\npipeline = ["modernbert_ner"]\n'
        '[components]\n[components.modernbert_ner]\nfactory = "modernbert_ner"\n'
    )
    _, filled = fill_config(tmp_path / "full.cfg", tmp_path / "base.cfg", silent=True)
    block = filled["components"]["modernbert_ner"]
    block.pop("factory")
    wanted = components.DEFAULT_CONFIG["modernbert_ner"]
    assert block["model"]["tok2vec"] == wanted["model"]["tok2vec"]
    assert block["scorer"] == wanted["scorer"]


def test_light():
    """spaCy imports the factories' module with every `spacy.blank()`."""
    script = """
import json, sys
heavy = ["torch", "transformers", "spacy_transformers", "safetensors", "mlx",
         "huggingface_hub", "onnxruntime"]
sys.modules.update(dict.fromkeys(heavy))  # Their import is an error
import spacy_modernbert.components
print(json.dumps([name for name in sys.modules if name.startswith("spacy_modern")]))
"""
    found = json.loads(run_script(script))
    rooms = {name.split(".")[1] for name in found if "." in name}
    assert not rooms & {"encoder", "layers", "architectures", "corpora"}


# -- Initializing ---------------------------------------------------------------


def test_initializing_encodes_nothing(checkpoint):
    nlp = make_nlp(checkpoint)
    shim_of(nlp).start()
    passes = count_passes(nlp.get_pipe("modernbert_ner").model)
    examples = make_examples(nlp, 12)
    nlp.initialize(lambda: examples)
    assert passes.encoded == passes.trained == []
    model = nlp.get_pipe("modernbert_ner").model
    linear = next(node for node in model.walk() if node.name == "linear")
    assert linear.get_param("W").shape == (64, 32)
    assert nlp.get_pipe("modernbert_ner").labels == ("PERSON", "PLACE")
    # The next time, models are initialized as ever.
    nlp.update(examples[:2])
    assert len(passes.trained) == 1


def test_initializing_with_layers_on_top_that_refuse_no_tokens(checkpoint):
    """As an LSTM does. And still nothing is encoded."""
    nlp = lstm_nlp(checkpoint)
    shim_of(nlp, "ner").start()
    passes = count_passes(nlp.get_pipe("ner").model)
    examples = make_examples(nlp, 4)
    nlp.initialize(lambda: examples)
    assert passes.encoded == passes.trained == []
    assert nlp.update(examples)["ner"] > 0
    docs = list(nlp.pipe(TEXTS))
    assert len(docs) == len(TEXTS)
    assert sum(passes.encoded) > sum(map(len, docs))
    vectors = tok2vec_of(nlp, "ner").predict(docs)
    assert [each.shape for each in vectors] == [(len(doc), 32) for doc in docs]
    # What the LSTM puts out lies between -1 and 1, and depends on the encoder.
    assert all(0 < np.abs(each).max() < 1 for each in vectors)
    passes.encoder = passes.encoder.copy({"final_norm.weight": np.zeros(32, "f")})
    others = tok2vec_of(nlp, "ner").predict(docs)
    for each, other in zip(vectors, others, strict=True):
        assert np.abs(each - other).max() > 1e-3


def test_initializing_beside_word_vectors(checkpoint):
    """Which layers of others find in the vocab of the Docs."""
    tok2vec = {
        "@layers": "concatenate.v1",
        "*": {
            "ours": tok2vec_config(checkpoint),
            "theirs": {
                "@architectures": "spacy.MultiHashEmbed.v2",
                "width": 16,
                "attrs": ["NORM"],
                "rows": [20],
                "include_static_vectors": True,
            },
        },
    }
    nlp = nlp_of(ner=ner_config(tok2vec, "modernbert_ner"))
    nlp.vocab.set_vector("Oslo", np.ones(3, "f"))
    examples = make_examples(nlp, 4)
    nlp.initialize(lambda: examples)
    assert nlp.update(examples)["ner"] > 0
    assert len(list(nlp.pipe(TEXTS))) == len(TEXTS)
    found = []
    for value in (1, -1):
        nlp.vocab.set_vector("Oslo", np.full(3, value, "f"))
        (vectors,) = tok2vec_of(nlp, "ner").predict([nlp("Oslo")])
        found.append(vectors)
    assert found[0].shape == found[1].shape == (1, 32 + 16)
    np.testing.assert_array_equal(found[0][:, :32], found[1][:, :32])
    assert (found[0][:, 32:] != found[1][:, 32:]).any()


def test_labels_of_a_file(checkpoint):
    nlp = make_nlp(checkpoint)
    ner = nlp.get_pipe("modernbert_ner")
    examples = make_examples(nlp, 2)
    other = train_ner(checkpoint, steps=0).get_pipe("modernbert_ner")
    # As `init labels` writes it. The second time, there are labels already.
    labels = srsly.json_loads(srsly.json_dumps(other.label_data))
    for _ in range(2):
        ner.initialize(lambda: examples, nlp=nlp, labels=labels)
        assert ner.labels == other.labels


def test_missing_folder(tmp_path):
    nlp = make_nlp(tmp_path / "gone")
    with pytest.raises(ValueError, match="gone"):
        nlp.initialize(lambda: make_examples(nlp, 1))


def test_window_beyond_a_small_model(tmp_path):
    folder = make_checkpoint(tmp_path / "short", max_position_embeddings=512)
    nlp = make_nlp(folder)
    with pytest.raises(ValueError, match=r"8192 .* Set window to 512"):
        nlp.initialize(lambda: make_examples(nlp, 1))


def test_not_initialized(checkpoint):
    nlp = make_nlp(checkpoint)
    assert nlp("").text == ""
    with pytest.raises(ValueError, match=r"nlp\.initialize\(\)"):
        nlp("Oslo")


# -- Training ---------------------------------------------------------------------


def test_an_update_before_initializing(checkpoint):
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 1)
    with pytest.raises(ValueError, match=r"Call nlp\.initialize\(\)"):
        nlp.get_pipe("modernbert_ner").update(examples)


@pytest.mark.usefixtures("parser")
def test_an_update_by_what_can_be_read_once(checkpoint):
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 2)
    nlp.initialize(lambda: examples)
    ner = nlp.get_pipe("modernbert_ner")
    assert ner.update(iter(examples), sgd=Adam(0.01))["modernbert_ner"] > 0


def gradients_of(model):
    """And no gradients from then on."""
    found = {}
    for i, node in enumerate(model.walk()):
        for name in node.grad_names:
            found[f"{i}.{node.name}.{name}"] = node.get_grad(name).copy()
            node.get_grad(name)[:] = 0
    return found


def test_trained_as_by_spacy(checkpoint):
    """By other products of matrices, to the same gradients."""
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 2)
    nlp.initialize(lambda: examples)
    ner = nlp.get_pipe("modernbert_ner")

    def gradients_by(update):
        fix_random_seed(0)
        return update(ner, examples, sgd=False), gradients_of(ner.model)

    stock_losses, stock = gradients_by(EntityRecognizer.update)
    assert not any(isinstance(node.ops, TorchProducts) for node in ner.model.walk())
    losses, found = gradients_by(components.ModernBertNER.update)
    assert all(isinstance(node.ops, TorchProducts) for node in ner.model.walk())
    assert losses == pytest.approx(stock_losses, rel=1e-4)
    assert found.keys() == stock.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, stock[name], rtol=1e-3, atol=1e-5)


def rehearsing(trained, monkeypatch):
    """RETURNS: A pipeline with something to rehearse, not without end, and its
    recognizer.
    """
    nlp = spacy.load(trained)
    ner = nlp.get_pipe("modernbert_ner")
    optimizer = nlp.resume_training()
    nlp.update(make_examples(nlp, 2), sgd=optimizer)
    steps = []
    transition = ner.transition_states

    def counting(states, scores):
        steps.append(len(states))
        assert len(steps) <= 1000
        transition(states, scores)

    monkeypatch.setattr(ner, "transition_states", counting)
    return nlp, ner


def test_rehearsing_empty_docs(trained, monkeypatch):
    nlp, ner = rehearsing(trained, monkeypatch)
    full = make_examples(nlp, 2)
    empty = Example.from_dict(nlp.make_doc(""), {})
    expected = ner.rehearse(full), gradients_of(ner.model)
    losses = ner.rehearse(iter([empty, *full, empty])), gradients_of(ner.model)
    assert losses[0]["modernbert_ner"] > 0
    assert losses[0] == expected[0]
    for name, gradient in losses[1].items():
        np.testing.assert_array_equal(gradient, expected[1][name])


def test_rehearsing_as_spacy_does(trained, monkeypatch):
    nlp, ner = rehearsing(trained, monkeypatch)
    examples = make_examples(nlp, 2)
    expected = EntityRecognizer.rehearse(ner, examples), gradients_of(ner.model)
    found = ner.rehearse(examples), gradients_of(ner.model)
    assert found[0] == expected[0]
    for name, gradient in found[1].items():
        np.testing.assert_array_equal(gradient, expected[1][name])


@pytest.mark.parametrize("n_empty", [0, 1])
def test_nothing_to_rehearse(trained, n_empty):
    nlp = spacy.load(trained)
    ner = nlp.get_pipe("modernbert_ner")
    empty = [Example.from_dict(nlp.make_doc(""), {})] * n_empty
    assert ner.rehearse(make_examples(nlp, 1)) is None
    nlp.resume_training()
    assert ner.rehearse(empty) == {"modernbert_ner": 0.0}
    losses = {"modernbert_ner": 1.0}
    assert ner.rehearse(empty, losses=losses) is losses
    assert losses == {"modernbert_ner": 1.0}


def test_products_of_layers_that_a_label_adds(checkpoint):
    nlp = make_nlp(checkpoint)
    examples = make_examples(nlp, 2)
    nlp.initialize(lambda: examples)
    ner = nlp.get_pipe("modernbert_ner")
    nlp.update(examples)
    lower = ner.model.get_ref("lower")
    ner.add_label("ANOTHER")
    assert ner.model.get_ref("lower") is not lower
    nlp.update(examples)
    assert all(isinstance(node.ops, TorchProducts) for node in ner.model.walk())


# -- On disk --------------------------------------------------------------------


def test_files(trained, checkpoint):
    folder = trained / "modernbert_ner"
    assert {path.name for path in folder.iterdir()} == {
        "cfg",
        "encoder",
        "model",
        "moves",
    }
    assert {path.name for path in (folder / "encoder").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    # The encoder is in its folder only.
    weights = (folder / "encoder" / "model.safetensors").stat().st_size
    assert (folder / "model").stat().st_size < 0.25 * weights
    assert load_config(folder / "encoder") == load_config(checkpoint)


def test_transformers_reads_the_encoder(trained):
    transformers = require("transformers")
    import torch

    folder = trained / "modernbert_ner" / "encoder"
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    nlp = spacy.load(trained)
    encoded = layer_of(nlp).predict([nlp.make_doc(TEXTS[0])])
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == encoded.plan.batches[0].ids.tolist()
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state[0].numpy()
    np.testing.assert_allclose(encoded.vectors, hidden, atol=1e-4)


def test_round_trip(trained, tmp_path):
    nlp = spacy.load(trained)
    found = entities(nlp.pipe(TEXTS))
    assert sum(map(len, found)) > len(TEXTS)
    nlp.to_disk(tmp_path / "again")
    assert entities(spacy.load(tmp_path / "again").pipe(TEXTS)) == found
    saved = contents(tmp_path / "again" / "modernbert_ner")
    wanted = contents(trained / "modernbert_ner")
    assert saved.keys() == wanted.keys() > {"cfg", "model", "moves"}
    assert [name for name in wanted if saved[name] != wanted[name]] == []


def test_bytes(trained):
    nlp = spacy.load(trained)
    other = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert entities(other.pipe(TEXTS)) == some_entities(nlp.pipe(TEXTS))


@pytest.mark.usefixtures("parser")
def test_what_predict_takes(trained):
    """A Doc, or Docs that can be read once, as spaCy's parser does."""
    ner = spacy.load(trained).get_pipe("modernbert_ner")
    nlp = spacy.blank("en", vocab=ner.vocab)
    wanted = [nlp(text) for text in TEXTS]
    ner.set_annotations(wanted, ner.predict(wanted))
    docs = [nlp(text) for text in TEXTS]
    ner.set_annotations(docs, ner.predict(iter(docs)))
    assert entities(docs) == some_entities(wanted)
    for text, each in zip(TEXTS, wanted, strict=True):
        doc = nlp(text)
        ner.set_annotations([doc], ner.predict(doc))
        assert entities([doc]) == entities([each])


def test_saved_over_itself(checkpoint, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "nlp")
    nlp = spacy.load(tmp_path / "nlp")
    nlp.to_disk(tmp_path / "nlp")
    wanted = some_entities(nlp.pipe(TEXTS))
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted
    examples = make_examples(nlp, 4)
    optimizer = nlp.resume_training()
    for _ in range(3):
        nlp.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path / "nlp")
    other = spacy.load(tmp_path / "nlp")
    assert entities(other.pipe(TEXTS)) == some_entities(nlp.pipe(TEXTS))
    found = loaded_encoder(other).tensors()
    for name, array in loaded_encoder(nlp).tensors().items():
        np.testing.assert_array_equal(found[name], array)


def test_a_failed_save_leaves_the_encoder_that_was_there(
    trained, tmp_path, monkeypatch
):
    shutil.copytree(trained, tmp_path / "nlp")
    nlp = spacy.load(tmp_path / "nlp")
    encoder = loaded_encoder(nlp)
    broken = dict(encoder.tensors())
    del broken["layers.0.mlp.Wi.weight"]
    monkeypatch.setattr(encoder, "tensors", lambda: broken)
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.Wi\.weight"):
        nlp.to_disk(tmp_path / "nlp")
    folder = tmp_path / "nlp" / "modernbert_ner"
    assert {path.name for path in folder.iterdir()} == {
        "cfg",
        "encoder",
        "model",
        "moves",
    }
    wanted = some_entities(spacy.load(trained).pipe(TEXTS))
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted


def test_not_initialized_on_disk(checkpoint, tmp_path):
    """As with stock components, there is nothing to save, and nothing is lost."""
    make_nlp(checkpoint).to_disk(tmp_path / "nlp")
    assert not (tmp_path / "nlp" / "modernbert_ner" / "encoder").exists()
    nlp = spacy.load(tmp_path / "nlp")
    with pytest.raises(ValueError, match=r"nlp\.initialize\(\)"):
        nlp("Oslo")
    nlp.initialize(lambda: make_examples(nlp, 1))
    nlp("Oslo")


def test_exclude(trained, tmp_path):
    nlp = spacy.load(trained)
    ner = nlp.get_pipe("modernbert_ner")
    ner.to_disk(tmp_path / "ner", exclude=["vocab", "model"])
    assert {path.name for path in (tmp_path / "ner").iterdir()} == {"cfg", "moves"}
    shim = shim_of(nlp)
    loaded = shim.loaded
    ner.from_disk(tmp_path / "ner", exclude=["vocab", "model"])
    assert ner.labels == ("PERSON", "PLACE")
    assert shim.loaded is loaded


def test_encoder_folder_missing(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "nlp")
    shutil.rmtree(tmp_path / "nlp" / "modernbert_ner" / "encoder")
    with pytest.raises(ValueError, match=r"'modernbert_ner' should be in .*encoder'"):
        spacy.load(tmp_path / "nlp")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_encoder_folder_damaged(trained, tmp_path, file, harm):
    shutil.copytree(trained, tmp_path / "nlp")
    path = tmp_path / "nlp" / "modernbert_ner" / "encoder" / file
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.unlink()
    # "encoder" and "tokenizer" stand in any path here; the file does not.
    with pytest.raises(ValueError, match=re.escape(file)):
        spacy.load(tmp_path / "nlp")


def trained_further(folder):
    nlp = spacy.load(folder)
    nlp.update(make_examples(nlp, 2), sgd=nlp.resume_training())
    return nlp


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("file", ["model", "cfg"])
def test_a_save_that_is_stopped(trained, tmp_path, monkeypatch, file, error):
    """Of the small files, too: the old model does not load with the new encoder."""
    shutil.copytree(trained, tmp_path / "nlp")
    nlp = trained_further(tmp_path / "nlp")
    ner = nlp.get_pipe("modernbert_ner")

    def stop(*args, **kwargs):
        raise error("stopped")

    # The first that is written, and the last.
    places = {"model": (Model, "to_bytes"), "cfg": (srsly, "write_json")}
    with monkeypatch.context() as patched:
        patched.setattr(*places[file], stop)
        with pytest.raises(error, match="stopped"):
            ner.to_disk(tmp_path / "nlp" / "modernbert_ner", exclude=["vocab"])
    assert contents(tmp_path / "nlp") == contents(trained)
    nlp.to_disk(tmp_path / "nlp")
    wanted = some_entities(nlp.pipe(TEXTS))
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted


def test_a_save_that_is_stopped_when_all_is_in_place(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "nlp")
    nlp = trained_further(tmp_path / "nlp")
    remove = shutil.rmtree

    def stop(path, *args, **kwargs):
        if str(path).endswith(".old"):
            raise KeyboardInterrupt
        remove(path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            nlp.to_disk(tmp_path / "nlp")
    wanted = some_entities(nlp.pipe(TEXTS))
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted


def test_another_encoder_in_a_loaded_component(trained, tmp_path):
    """Which is as it was, if that fails."""
    shutil.copytree(trained, tmp_path / "nlp")
    nlp = trained_further(trained)
    wanted = some_entities(nlp.pipe(TEXTS))
    shim_of(nlp).save(tmp_path / "nlp" / "modernbert_ner" / "encoder")
    ner = nlp.get_pipe("modernbert_ner")
    with pytest.raises(ValueError, match="is not the one"):
        ner.from_disk(tmp_path / "nlp" / "modernbert_ner", exclude=["vocab"])
    assert entities(nlp.pipe(TEXTS)) == wanted
    ner.from_disk(tmp_path / "nlp" / "modernbert_ner", exclude=["vocab", "model"])
    assert entities(nlp.pipe(TEXTS)) == wanted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_same_encoder_in_half_precision(trained, tmp_path, dtype):
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained, tmp_path / "nlp")
    file = tmp_path / "nlp" / "modernbert_ner" / "encoder" / "model.safetensors"
    tensors = load_file(file)
    assert (tensors["final_norm.weight"] != 1).all()
    halved = {name: each.to(getattr(torch, dtype)) for name, each in tensors.items()}
    save_file(halved, file, metadata={"format": "pt"})
    found = loaded_encoder(spacy.load(tmp_path / "nlp")).tensors()
    np.testing.assert_array_equal(
        found["final_norm.weight"], halved["final_norm.weight"].float().numpy()
    )


def test_the_same_encoder_converted(trained, tmp_path):
    """By `modernbert convert`, which leaves norms as they are."""
    shutil.copytree(trained, tmp_path / "nlp")
    folder = tmp_path / "nlp" / "modernbert_ner" / "encoder"
    source = trained / "modernbert_ner" / "encoder"
    shutil.rmtree(folder)
    done(invoke("convert", source, folder, "--bits", 8, "--group-size", 32))
    some_entities(spacy.load(tmp_path / "nlp").pipe(TEXTS))


def test_settings_when_loading(trained):
    """They follow the config that is given, not what was saved."""
    tok2vec = {
        "backend": "cpu",
        "max_batch_wordpieces": 600,
        "get_spans": {"window": 300, "overlap": 50},
    }
    nlp = load_with(trained, **tok2vec)
    assert shim_of(nlp).settings.max_batch_wordpieces == 600
    layer = layer_of(nlp)
    assert (layer.attrs["get_spans"].window, layer.attrs["get_spans"].overlap) == (
        300,
        50,
    )
    wanted = some_entities(spacy.load(trained).pipe(TEXTS))
    assert entities(nlp.pipe(TEXTS)) == wanted
    settings = shim_of(spacy.load(trained)).settings
    dotted = {"components.modernbert_ner.model.tok2vec.max_batch_wordpieces": 9000}
    found = shim_of(spacy.load(trained, config=dotted)).settings
    assert found == replace(settings, max_batch_wordpieces=9000)


@pytest.mark.parametrize("factor", [0.0, 1.0])
def test_gradients_follow_the_config(trained, factor, tmp_path):
    """Whichever way the pipeline was trained before it was saved."""
    key = "components.modernbert_ner.model.tok2vec.grad_factor"
    spacy.load(trained, config={key: 1.0 - factor}).to_disk(tmp_path / "saved")
    nlp = spacy.load(tmp_path / "saved", config={key: factor})
    tensors = loaded_encoder(nlp).tensors()
    before = {name: array.copy() for name, array in tensors.items()}
    nlp.update(make_examples(nlp, 2), sgd=nlp.resume_training())
    changed = [(tensors[name] != before[name]).any() for name in before]
    assert any(changed) == all(changed) == bool(factor)


def test_backend_when_loading(trained):
    """In either form, as the README has it. All else stays as it was saved."""

    def settings_of(nlp):
        return nlp.config["components"]["modernbert_ner"]["model"]["tok2vec"]

    saved = spacy.load(trained)
    assert settings_of(saved)["backend"] == "cpu"
    tok2vec = {"backend": "auto"}
    nested = {"components": {"modernbert_ner": {"model": {"tok2vec": tok2vec}}}}
    dotted = {"components.modernbert_ner.model.tok2vec.backend": "auto"}
    for config in (nested, dotted):
        nlp = spacy.load(trained, config=config)
        assert shim_of(nlp).settings.backend == "auto"
        assert settings_of(nlp) == {**settings_of(saved), "backend": "auto"}
        assert entities(nlp.pipe(TEXTS)) == some_entities(saved.pipe(TEXTS))


def test_wrong_settings_when_loading(trained):
    prefix = "components.modernbert_ner.model.tok2vec."
    for key, value in [
        ("backend", "abacus"),
        ("get_spans.window", 9000),
        ("max_batch_wordpieces", 100),
    ]:
        with pytest.raises(ValueError, match=str(value)):
            spacy.load(trained, config={prefix + key: value})


def test_another_tok2vec_altogether(tmp_path):
    """Without an encoder, it is spaCy's `ner` under another name."""
    tok2vec = {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "width": 16,
        "depth": 1,
        "embed_size": 100,
        "window_size": 1,
        "maxout_pieces": 2,
        "subword_features": False,
        "pretrained_vectors": None,
    }
    nlp = nlp_of(modernbert_ner=ner_config(tok2vec, "modernbert_ner"))
    nlp.initialize(lambda: make_examples(nlp, 2))
    draw_scores(nlp.get_pipe("modernbert_ner"))
    wanted = some_entities(nlp.pipe(TEXTS))
    nlp.to_disk(tmp_path / "nlp")
    assert not (tmp_path / "nlp" / "modernbert_ner" / "encoder").exists()
    assert entities(spacy.load(tmp_path / "nlp").pipe(TEXTS)) == wanted
