import copy
import json
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import srsly
from spacy.util import registry
from thinc.api import SGD, Adam, Shim

from spacy_modernbert.encoder.checkpoint import load_config
from spacy_modernbert.layers.encode import find_layers, get_shim
from spacy_modernbert.layers.settings import EncoderSettings
from spacy_modernbert.layers.shim import (
    EncoderShim,
    encoders_apart,
    read_encoder_config,
)

from ..encoder.util import assert_same
from ..util import (
    gradients_of,
    make_checkpoint,
    make_text,
    make_tok2vec,
    make_tokenizer,
    pickled,
    tok2vec_config,
)

NAME = "layers.1.mlp.Wi.weight"


@pytest.fixture
def shim(checkpoint):
    shim = EncoderShim(EncoderSettings(name=str(checkpoint), backend="cpu"))
    shim.start()
    return shim


@pytest.fixture(scope="module")
def docs(nlp):
    return [nlp(make_text(seed)) for seed in range(3)]


def weights(shim):
    return {name: np.array(w) for name, w in shim.loaded.encoder.tensors().items()}


def learn(model, docs, optimizer, steps=1):
    for _ in range(steps):
        outputs, backprop = model.begin_update(docs)
        backprop([output - 1 for output in outputs])
        model.finish_update(optimizer)


# -- Coming by an encoder -------------------------------------------------------


def test_nothing_is_read_until_it_is_started(tmp_path):
    shim = EncoderShim(EncoderSettings(name=str(tmp_path / "nowhere")))
    assert not shim.has_encoder
    with pytest.raises(ValueError, match=r"nowhere.*nlp\.initialize\(\)"):
        _ = shim.loaded
    with pytest.raises(ValueError, match="nowhere"):
        shim.start()


def test_an_encoder_that_is_there_is_kept(shim, tmp_path):
    loaded = shim.loaded
    shim.start()
    assert shim.loaded is loaded


def test_started_again(checkpoint, docs):
    """As spaCy's own layers, it starts from scratch: with whatever it was trained on,
    scores on that would be too good."""
    model = make_tok2vec(checkpoint)
    shim = get_shim(find_layers(model)[0])
    shim.start()
    before = weights(shim)
    learn(model, docs, Adam(0.01))
    assert (weights(shim)[NAME] != before[NAME]).any()
    copied = shim.copy()
    for each in (shim, copied):
        each.start()
        assert_same(weights(each), before)


def test_one_that_was_loaded_is_kept(checkpoint, docs):
    model = make_tok2vec(checkpoint)
    shim = get_shim(find_layers(model)[0])
    shim.load(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shim.start()
    learn(model, docs, Adam(0.01))
    learned = weights(shim)
    with pytest.warns(UserWarning, match="load the pipeline again"):
        shim.start()
    assert_same(weights(shim), learned)


def gather(model, docs):
    """Gradients that nothing is stepped by."""
    outputs, backprop = model.begin_update(docs)
    backprop([output - 1 for output in outputs])


@pytest.mark.parametrize("is_loaded", [False, True])
def test_gradients_of_before_are_not_stepped_by(checkpoint, docs, is_loaded):
    """Those that were gathered when somebody interrupted, and started again."""
    model = make_tok2vec(checkpoint)
    shim = get_shim(find_layers(model)[0])
    if is_loaded:
        shim.load(checkpoint)
    else:
        shim.start()
    before = weights(shim)
    gather(model, docs)
    model.begin_update(docs)  # whose gradient is to come
    model.finish_update(Adam(0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shim.start()
    assert not shim.loaded.encoder.has_gradients
    model.finish_update(Adam(0.01))
    assert_same(weights(shim), before)


def test_another_encoder_has_an_id_of_its_own(checkpoint, docs, tmp_path):
    """An optimizer remembers nothing of it."""
    model = make_tok2vec(checkpoint)
    shim = get_shim(find_layers(model)[0])
    optimizer = Adam(0.01, use_averages=True)
    learn(model, docs, optimizer, steps=3)
    # Of other shapes, which what is remembered does not fit.
    shim.load(make_checkpoint(tmp_path / "other", vocab_size=300, seed=1))
    before = weights(shim)
    with shim.use_params(optimizer.averages):
        assert_same(weights(shim), before)
    learn(model, docs, optimizer)
    assert {optimizer.nr_update[shim.id, name] for name in before} == {1}


def test_one_that_is_not_trained_is_as_it_came(checkpoint, docs):
    """It is not read again, nor is it said to have been trained."""
    model = make_tok2vec(checkpoint, grad_factor=0.0)
    shim = get_shim(find_layers(model)[0])
    for begin in (shim.start, lambda: shim.load(checkpoint)):
        begin()
        encoder = shim.loaded.encoder
        learn(model, docs, Adam(0.01))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shim.start()
        assert shim.loaded.encoder is encoder


def test_the_encoder_is_made_by_the_settings(checkpoint, monkeypatch):
    """By all of them, to predict and, where that one cannot, to train."""
    asked = []

    def spy(config, tensors, **settings):
        asked.append(settings)
        return SimpleNamespace(config=config, tensors=dict, can_train=False)

    monkeypatch.setattr("spacy_modernbert.layers.shim.make_encoder", spy)
    told = {
        "backend": "cpu",
        "precision": "bfloat16",
        "quantization": {"bits": 8},
        "gradient_checkpointing": True,
        "frozen_layers": 2,
        "heed_variable": False,
    }
    shim = EncoderShim(EncoderSettings(name=str(checkpoint), **told))
    shim.start()
    shim.to_train()
    assert asked == [{**told, "to_train": False}, {**told, "to_train": True}]


def test_a_damaged_tokenizer_is_named(tmp_path):
    folder = make_checkpoint(tmp_path / "damaged")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged.tokenizer\.json is not a tokenizer"):
        EncoderShim(EncoderSettings(name=str(folder), backend="cpu")).start()


def test_tokenizer_with_more_wordpieces_than_the_encoder(checkpoint, tmp_path):
    folder = make_checkpoint(tmp_path / "mixed", vocab_size=300)
    make_tokenizer(320).save(str(folder / "tokenizer.json"))
    # As with a pipeline, which started from another one.
    shim = EncoderShim(EncoderSettings(name=str(checkpoint), backend="cpu"))
    message = r"mixed.tokenizer\.json has .* up to 319, .* 300 wordpieces"
    with pytest.raises(ValueError, match=message):
        shim.load(folder)


def test_saved_as_it_came(shim, checkpoint, tmp_path):
    shim.save(tmp_path / "copy")
    assert load_config(tmp_path / "copy") == load_config(checkpoint)
    tensors = (tmp_path / "copy" / "model.safetensors").read_bytes()
    assert tensors == (checkpoint / "model.safetensors").read_bytes()
    other = EncoderShim(EncoderSettings(name="nowhere", backend="cpu"))
    other.load(tmp_path / "copy")
    assert_same(weights(other), weights(shim))


# -- Bytes ----------------------------------------------------------------------


def test_bytes(shim):
    other = EncoderShim(EncoderSettings(name="nowhere", backend="cpu"))
    assert other.from_bytes(shim.to_bytes()) is other
    assert_same(weights(other), weights(shim))
    text = ["Anna Berg [SEP]"]
    found, wanted = other.loaded.tokenizer(text), shim.loaded.tokenizer(text)
    assert found[0].ids.tolist() == wanted[0].ids.tolist()
    assert other.loaded.tokenizer_config == shim.loaded.tokenizer_config
    assert other.loaded.encoder.config == shim.loaded.encoder.config
    assert other.to_bytes() == shim.to_bytes()


def test_bytes_of_numbers_that_msgpack_lacks(checkpoint, tmp_path):
    """Such as the length that transformers writes for a tokenizer without a limit."""
    folder = tmp_path / "encoder"
    shutil.copytree(checkpoint, folder)
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text(encoding="utf8"))
        settings["model_max_length"] = int(1e30)
        (folder / name).write_text(json.dumps(settings), encoding="utf8")
    shim = EncoderShim(EncoderSettings(name=str(folder), backend="cpu"))
    shim.start()
    other = EncoderShim(shim.settings).from_bytes(shim.to_bytes())
    assert other.loaded.tokenizer_config["model_max_length"] == int(1e30)
    assert other.loaded.encoder.config == shim.loaded.encoder.config
    assert pickle.loads(pickle.dumps(shim)).to_bytes() == shim.to_bytes()


def test_bytes_of_nothing(shim):
    empty = EncoderShim(EncoderSettings(name="nowhere")).to_bytes()
    shim.from_bytes(empty)
    assert not shim.has_encoder and not shim.is_apart


def test_bytes_without_the_encoder(shim):
    with encoders_apart():
        data = shim.to_bytes()
    assert len(data) < 200 < len(shim.to_bytes())
    shim.from_bytes(data)
    assert shim.is_apart and not shim.has_encoder
    with pytest.raises(ValueError, match="in a folder"):
        _ = shim.loaded


def test_damaged_bytes(shim):
    data = shim.to_bytes()
    at = data.index(b"modernbert", data.index(b"model_type"))
    with pytest.raises(ValueError, match="modernbexx"):
        shim.from_bytes(data[:at] + b"modernbexx" + data[at + 10 :])


def changed(**values):
    """What changes bytes; None leaves a value out."""

    def change(data):
        message = {**srsly.msgpack_loads(data), **values}
        return srsly.msgpack_dumps(
            {key: value for key, value in message.items() if value is not None}
        )

    return change


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data: b"", "not the bytes of an encoder"),
        (lambda data: data[:-1], "not the bytes of an encoder"),
        (lambda data: srsly.msgpack_dumps([1, 2]), "'encoder' should be one of none"),
        (changed(encoder=[1]), r"'encoder' should be .* but is \[1\]"),
        (changed(encoder="there"), "'encoder' should be .* but is 'there'"),
        (changed(config=None), "'config' should be str, but is missing"),
        (changed(config="{"), "'config' is not JSON"),
        (changed(config="[" * 100_000), "'config' is not JSON"),
        (changed(config="null"), "'config' should be a JSON object, but is NoneType"),
        (changed(tensors="model.safetensors"), "'tensors' should be bytes, but is str"),
        (changed(tokenizer=b"{}"), "'tokenizer' should be str, but is bytes"),
        (changed(tokenizer="{}"), "tokenizer of the serialized encoder"),
        (changed(tokenizer_config="[]"), "'tokenizer_config' .* but is list"),
        (changed(tokenizer_config={}), "'tokenizer_config' .* but is dict"),
        (changed(encoder="apart"), "'identity' should be bytes, but is missing"),
        (changed(encoder="apart", identity="a"), "'identity' .* but is str"),
    ],
)
def test_bytes_that_are_no_encoder(shim, harm, message):
    """The shim keeps what it has."""
    before = shim.loaded
    with pytest.raises(ValueError, match=message):
        shim.from_bytes(harm(shim.to_bytes()))
    assert shim.loaded is before and not shim.is_apart


def test_an_identity_that_was_cut(shim, checkpoint):
    with encoders_apart():
        data = shim.to_bytes()
    identity = srsly.msgpack_loads(data)["identity"]
    shim.from_bytes(changed(identity=identity[:-1])(data))
    with pytest.raises(ValueError, match=r"not the one that 'model' was saved with"):
        shim.load_apart(checkpoint, Path("model"))


def test_the_config_in_bytes(shim):
    config = read_encoder_config(shim.to_bytes())
    assert config == shim.loaded.encoder.config.to_dict()
    with encoders_apart():
        assert read_encoder_config(shim.to_bytes()) is None
    # Of other shims.
    for other in ([1, 2], {"state": b"x"}):
        assert read_encoder_config(srsly.msgpack_dumps(other)) is None
    with pytest.raises(ValueError, match="'config' should be a JSON object"):
        read_encoder_config(changed(config="[]")(shim.to_bytes()))


def test_settings_are_not_in_the_bytes(checkpoint, docs):
    model = make_tok2vec(checkpoint, max_batch_wordpieces=512)
    config = tok2vec_config(checkpoint, max_batch_wordpieces=1024)
    other = registry.resolve({"model": config})["model"].from_bytes(model.to_bytes())
    assert get_shim(other.layers[0]).settings.max_batch_wordpieces == 1024
    assert other.layers[0].attrs["get_spans"].window == 512
    np.testing.assert_array_equal(other.predict(docs)[0], model.predict(docs)[0])


# -- Copies ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [lambda model: model.copy(), copy.deepcopy], ids=["copy", "deepcopy"]
)
def test_copies_learn_apart(checkpoint, docs, copied):
    model = make_tok2vec(checkpoint)
    other = copied(model)
    (mine,), (theirs,) = (
        [get_shim(layer) for layer in find_layers(each)] for each in (model, other)
    )
    assert mine.id != theirs.id
    before = weights(mine)
    learn(other, docs, SGD(0.1))
    assert_same(weights(mine), before)
    assert (weights(theirs)[NAME] != before[NAME]).any()


def test_copies_of_what_is_not_loaded(checkpoint):
    model = registry.resolve({"model": tok2vec_config(checkpoint)})["model"]
    assert not get_shim(model.copy().layers[0]).has_encoder
    assert not get_shim(copy.deepcopy(model).layers[0]).has_encoder


def test_sent_to_another_process(shim):
    # As multiprocessing does where it spawns.
    other = pickled(shim)
    assert other.id == shim.id and other.settings == shim.settings
    assert_same(weights(other), weights(shim))


def test_those_made_after_one_that_was_sent_have_other_ids(shim, monkeypatch):
    """Optimizers tell encoders apart by their ids."""
    sent = pickle.dumps(shim)
    # A fresh process counts from 0.
    monkeypatch.setattr(Shim, "global_id", 0)
    other = pickle.loads(sent)
    assert other.copy().id > other.id == shim.id


# -- Learning -------------------------------------------------------------------


def test_each_weight_is_stepped_as_thinc_steps_it(checkpoint, docs):
    model = make_tok2vec(checkpoint)
    shim = get_shim(model.layers[0])
    before = weights(shim)
    outputs, backprop = model.begin_update(docs)
    backprop([output - 1 for output in outputs])
    gradients = gradients_of(shim.loaded.encoder)
    settings = {"L2": 0.01, "grad_clip": 1.0, "use_averages": False}
    model.finish_update(Adam(0.01, **settings))
    reference = Adam(0.01, **settings)
    for name, array in weights(shim).items():
        wanted, _ = reference((0, name), before[name].copy(), gradients[name].copy())
        np.testing.assert_allclose(array, wanted, atol=1e-7)
    assert not any(g.any() for g in gradients_of(shim.loaded.encoder).values())


def test_keys_of_the_optimizer(checkpoint, docs):
    model = make_tok2vec(checkpoint)
    shim = get_shim(model.layers[0])
    optimizer = Adam(0.01)
    learn(model, docs, optimizer)
    assert set(optimizer.nr_update) == {(shim.id, name) for name in weights(shim)}


def test_lower_layers_learn_more_slowly(checkpoint, docs):
    """By plain SGD, of three layers: the second takes a quarter of the way."""
    ways = []
    for decay in (1.0, 0.5):
        model = make_tok2vec(checkpoint, layer_lr_decay=decay)
        shim = get_shim(model.layers[0])
        before = weights(shim)[NAME]
        learn(model, docs, SGD(100.0, grad_clip=0.0, use_averages=False))
        ways.append(weights(shim)[NAME] - before)
    assert np.abs(ways[0]).max() > 0.01
    np.testing.assert_allclose(ways[1], ways[0] / 4, atol=1e-6)


def test_nothing_to_step():
    EncoderShim(EncoderSettings(name="nowhere")).finish_update(SGD(0.1))


def test_nothing_to_learn(checkpoint, docs):
    """Examples without annotations end in a step, too. What only predicts takes it."""
    model = make_tok2vec(checkpoint, backend="cpu", quantization={"bits": 8})
    wanted = model.predict(docs)
    model.finish_update(SGD(0.1))
    for found, vectors in zip(model.predict(docs), wanted, strict=True):
        np.testing.assert_array_equal(found, vectors)
    with pytest.raises(ValueError, match=r"8 bits|quantiz"):
        model.begin_update(docs)


def test_a_step_waits_for_the_gradient(checkpoint, docs):
    """`nlp.update` asks for it too early, with a `transformer` and listeners."""
    early, late = make_tok2vec(checkpoint), make_tok2vec(checkpoint)
    for _ in range(2):
        outputs, backprop = early.begin_update(docs)
        early.finish_update(SGD(0.1))
        backprop([output - 1 for output in outputs])
    learn(late, docs, SGD(0.1), steps=2)
    assert_same(weights(get_shim(early.layers[0])), weights(get_shim(late.layers[0])))


@pytest.mark.parametrize(
    "settle",
    [
        lambda model, docs: model.begin_update(docs),
        lambda model, docs: model.to_bytes(),
        lambda model, docs: model.copy(),
    ],
    ids=["begin_update", "to_bytes", "copy"],
)
def test_a_step_does_not_wait_for_ever(checkpoint, docs, settle):
    model = make_tok2vec(checkpoint)
    shim = get_shim(model.layers[0])
    before = weights(shim)
    outputs, backprop = model.begin_update(docs)
    backprop([output - 1 for output in outputs])
    model.begin_update(docs)  # and no gradient
    model.finish_update(SGD(0.1))
    model.predict(docs)
    assert_same(weights(shim), before)
    settle(model, docs)
    assert (weights(shim)[NAME] != before[NAME]).any()


def test_averages(checkpoint, docs):
    model = make_tok2vec(checkpoint)
    shim = get_shim(model.layers[0])
    optimizer = SGD(0.1, use_averages=True)
    learn(model, docs, optimizer, steps=3)
    own, output = weights(shim), model.predict(docs)[0]
    averages = {name: optimizer.averages[shim.id, name] for name in own}
    with model.use_params(optimizer.averages):
        assert_same(weights(shim), averages)
        averaged = model.predict(docs)[0]
        saved = model.to_bytes()
    assert np.abs(averaged - output).max() > 1e-3
    assert_same(weights(shim), own)
    np.testing.assert_array_equal(model.predict(docs)[0], output)
    model.from_bytes(saved)
    np.testing.assert_array_equal(model.predict(docs)[0], averaged)


def test_params_of_others(checkpoint, docs):
    model = make_tok2vec(checkpoint)
    shim = get_shim(model.layers[0])
    encoder = shim.loaded.encoder
    for params in ({}, {(shim.id, "W"): 0, "text": 0, (shim.id + 1, NAME): 0}):
        with model.use_params(params):
            assert shim.loaded.encoder is encoder


# -- Around it ------------------------------------------------------------------


def test_threads_may_share_a_model(checkpoint, nlp):
    model = make_tok2vec(checkpoint, window=64, max_batch_wordpieces=128)
    docs = [nlp(make_text(seed, 8)) for seed in range(12)]
    wanted = [model.predict([doc])[0] for doc in docs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = list(pool.map(lambda doc: model.predict([doc])[0], docs))
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


def test_thincs_device_is_not_the_encoders(shim):
    shim.to_device("gpu", 0)
    assert shim.loaded.encoder.device == "cpu"
