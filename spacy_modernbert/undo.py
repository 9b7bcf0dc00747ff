"""A recognizer that is left as it was where initializing or loading it fails."""

import copy
import gc
from contextlib import contextmanager
from typing import Callable, Iterator, cast

from spacy.pipeline.transition_parser import Parser
from thinc.api import Model, Shim


@contextmanager
def undone_if_it_fails(pipe: Parser) -> Iterator[None]:
    """Within this context, what fails, or is interrupted, leaves a recognizer as it
    was: its actions, its settings, its weights and its encoder.

    pipe (Parser): The recognizer.
    """
    undo = _remember(pipe)
    is_collecting = gc.isenabled()
    try:
        yield
    except BaseException:
        undo()
        # What msgpack cannot read leaves it disabled.
        if is_collecting:
            gc.enable()
        raise


def _remember(pipe: Parser) -> Callable[[], None]:
    """RETURNS (Callable[[], None]): Makes a recognizer what it is now."""
    model, moves = pipe.model, pipe.moves
    labels = {action: dict(counts) for action, counts in moves.labels.items()}
    layers, unseen = list(model.layers), set(model.attrs["unseen_classes"])
    # Initializing and loading put new arrays, encoders and values in the places of the
    # old ones, so that none has to be copied.
    rehearsal = pipe._rehearsal_model
    cfgs = [(cfg, dict(cfg)) for cfg in (pipe.cfg, moves.cfg)]
    parts = [_remember_node(node) for node in model.walk()]
    parts += [_remember_shim(shim) for node in model.walk() for shim in node.shims]

    def undo() -> None:
        moves.initialize_actions(labels)
        for cfg, values in cfgs:
            cfg.clear()
            cfg.update(values)
        pipe._rehearsal_model = rehearsal
        model._layers[:] = layers
        for undo_part in parts:
            undo_part()
        model.attrs["unseen_classes"].clear()
        model.attrs["unseen_classes"].update(unseen)

    return undo


def _remember_node(node: Model) -> Callable[[], None]:
    """RETURNS (Callable[[], None]): Makes a layer what it is now."""
    name, attrs, refs = node.name, dict(node.attrs), dict(node._refs)
    dims = {key: node.maybe_get_dim(key) for key in node.dim_names}
    params = {key: node.maybe_get_param(key) for key in node.param_names}

    def undo() -> None:
        node.name = name
        node.attrs.clear()
        node.attrs.update(attrs)
        node._refs.update(refs)
        # Without parameters, dimensions may change.
        for key in node.param_names:
            node.set_param(key, None)
        for key, size in dims.items():
            node.set_dim(key, cast(int, size), force=True)
        for key, values in params.items():
            node.set_param(key, values)

    return undo


def _remember_shim(shim: Shim) -> Callable[[], None]:
    """RETURNS (Callable[[], None]): Makes a shim what it is now."""
    values = dict(vars(shim))
    # Of torch's modules, which layers of spaCy's have: they load into the same arrays.
    module = values["_model"]
    is_of_torch = hasattr(module, "state_dict")
    weights = copy.deepcopy(module.state_dict()) if is_of_torch else None

    def undo() -> None:
        vars(shim).update(values)
        if weights is not None:
            module.load_state_dict(weights)

    return undo
