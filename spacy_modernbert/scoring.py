"""The layers of a parser's model that score actions: whether their weights fit.

spaCy's parser and what Numba compiles read weights by the dimensions that a layer says
it has. A file may hold others, and they would read beyond them.
"""

from typing import Mapping, Optional, Sequence, Tuple

from spacy.ml import tb_framework
from spacy.ml._precomputable_affine import forward as affine_forward
from spacy.pipeline.transition_parser import Parser
from thinc.api import Model
from thinc.layers.linear import forward as linear_forward

from .errors import Errors

# Parameters, and the names of their dimensions.
_LOWER = {
    "W": ("nF", "nO", "nP", "nI"),
    "b": ("nO", "nP"),
    "pad": ("1", "nF", "nO", "nP"),
}
_UPPER = {"W": ("nO", "nI"), "b": ("nO",)}


def has_shapes(layer: Model) -> bool:
    """RETURNS (bool): Whether it is a layer of spaCy's parser that scores, and there
    are all of its parameters, of the shapes that its dimensions say.
    """
    parameters = _parameters_of(layer)
    return bool(parameters) and all(
        layer.has_param(name) and layer.get_param(name).shape == _shape(layer, dims)
        for name, dims in parameters.items()
    )


def check_weights(pipe: Parser) -> None:
    """Check that the model of a recognizer can score its actions. One that is not
    initialized has nothing to check, and of another architecture than spaCy's, nothing
    is known.

    pipe (Parser): The recognizer.
    RAISES (ValueError): If it cannot.
    """
    model = pipe.model
    if model._func is not tb_framework.forward:
        return
    _, lower, upper = model.layers
    layers = [lower, upper] if model.attrs["has_upper"] else [lower]
    # What each of them is to score, or to pass on.
    sizes = [*(layer.maybe_get_dim("nI") for layer in layers[1:]), pipe.moves.n_moves]
    for layer, size in zip(layers, sizes, strict=True):
        if not any(layer.has_param(name) for name in layer.param_names):
            continue
        for name, dims in _parameters_of(layer).items():
            found, wanted = "missing", f"float32 of shape {_shape(layer, dims)}"
            if layer.has_param(name):
                array = layer.get_param(name)
                found = f"{array.dtype} of shape {array.shape}"
            if found != wanted:
                raise ValueError(
                    Errors.PARSER_BAD_WEIGHTS.format(
                        component=pipe.name,
                        layer=layer.name,
                        name=name,
                        found=found,
                        wanted=wanted,
                    )
                )
        if size is not None and layer.maybe_get_dim("nO") != size:
            raise ValueError(
                Errors.PARSER_OTHER_SIZE.format(
                    component=pipe.name,
                    layer=layer.name,
                    found=layer.maybe_get_dim("nO"),
                    wanted=size,
                )
            )


def _parameters_of(layer: Model) -> Mapping[str, Sequence[str]]:
    """RETURNS (Mapping[str, Sequence[str]]): The parameters of a layer, and the names
    of their dimensions; empty if it is none of spaCy's parser that scores.
    """
    if layer._func is affine_forward:
        return _LOWER
    return _UPPER if layer._func is linear_forward else {}


def _shape(layer: Model, dims: Sequence[str]) -> Tuple[Optional[int], ...]:
    return tuple(1 if dim == "1" else layer.maybe_get_dim(dim) for dim in dims)
