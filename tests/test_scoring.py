"""Weights of recognizers that do not fit: nothing is read beyond them."""

import numpy as np
import pytest
import srsly

from spacy_modernbert.scoring import check_weights

from .recognizers import make_doc, make_pipe

# Where they are among the layers that are saved.
LOWER, UPPER = 2, 3


def loaded(pipe, change):
    """RETURNS (bytes): A recognizer whose model was changed where it is saved."""
    message = srsly.msgpack_loads(pipe.to_bytes())
    model = srsly.msgpack_loads(message["model"])
    change(model)
    message["model"] = srsly.msgpack_dumps(model)
    return srsly.msgpack_dumps(message)


def assert_refused(pipe, data, message, **settings):
    """And the recognizer is as it was."""
    docs = [make_doc(np.random.default_rng(9), 30)]
    pipe.set_annotations(docs, pipe.predict(docs))
    wanted = docs[0].to_array(["ENT_IOB", "ENT_TYPE"]).tolist()
    with pytest.raises(ValueError, match=message):
        pipe.from_bytes(data, **settings)
    docs = [make_doc(np.random.default_rng(9), 30)]
    pipe.set_annotations(docs, pipe.predict(docs))
    assert docs[0].to_array(["ENT_IOB", "ENT_TYPE"]).tolist() == wanted


@pytest.mark.parametrize("use_upper", [False, True])
@pytest.mark.parametrize("exclude", ["moves", "model"])
@pytest.mark.parametrize("n_labels", [2, 6])
def test_other_actions(use_upper, exclude, n_labels):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, use_upper=use_upper)
    other = make_pipe(rng, n_labels, use_upper)
    n_scores, n_moves = other.moves.n_moves, pipe.moves.n_moves
    if exclude == "model":
        n_scores, n_moves = n_moves, n_scores
    message = f"gives {n_scores} numbers for each token, but {n_moves} are needed"
    assert_refused(pipe, other.to_bytes(), message, exclude=[exclude])


@pytest.mark.parametrize("use_upper", [False, True])
def test_another_upper(use_upper):
    rng = np.random.default_rng(0)
    pipe = make_pipe(rng, use_upper=use_upper)

    def change(model):
        model["attrs"][0]["has_upper"] = srsly.msgpack_dumps(not use_upper)

    message = f"use_upper = {not use_upper}, but the config says {use_upper}"
    assert_refused(pipe, loaded(pipe, change), message)


@pytest.mark.parametrize(
    ("use_upper", "layer", "name"),
    [
        (False, LOWER, "W"),
        (False, LOWER, "b"),
        (False, LOWER, "pad"),
        (True, LOWER, "b"),
        (True, UPPER, "W"),
        (True, UPPER, "b"),
    ],
)
@pytest.mark.parametrize("harm", ["cut", "half", "missing"])
def test_parameters_that_do_not_fit(use_upper, layer, name, harm):
    pipe = make_pipe(np.random.default_rng(0), use_upper=use_upper)

    def change(model):
        params = model["params"][layer]
        array = params[name]
        params[name] = {
            "cut": array[..., :1].copy(),
            "half": array.astype("f2"),
            "missing": None,
        }[harm]

    message = f"the parameter {name} is .*, but it should be float32 of shape"
    assert_refused(pipe, loaded(pipe, change), message)


def no_weights(pipe):
    """As before it is initialized."""
    _, lower, upper = pipe.model.layers
    for layer in (lower, upper):
        for name in layer.param_names:
            layer.set_param(name, None)
    upper.set_dim("nI", None, force=True)


def test_an_upper_layer_of_another_width():
    pipe = make_pipe(np.random.default_rng(0), use_upper=True)

    def change(model):
        model["nodes"][UPPER]["dims"]["nI"] = 1
        params = model["params"][UPPER]
        params["W"] = params["W"][:, :1].copy()

    data = loaded(pipe, change)
    no_weights(pipe)
    with pytest.raises(ValueError, match=r"gives 8 numbers .*, but 1 are needed"):
        pipe.from_bytes(data)


def test_no_weights_yet():
    pipe = make_pipe(np.random.default_rng(0), use_upper=True)
    no_weights(pipe)
    check_weights(pipe)
    pipe.from_bytes(pipe.to_bytes())
