"""A recognizer that starts from scratch, of which spaCy's parser would keep some of
what it has learned.
"""

import copy
import gc
from contextlib import contextmanager
from typing import Callable, Iterator, List, cast

from spacy.pipeline.transition_parser import Parser
from thinc.api import Model, Shim

# A setting of saved recognizers.
_UNSEEN = "unseen_actions"


def reset_lower(model: Model) -> None:
    """Let the next initialization draw new weights for the lower layer, which is that
    of scores if there is none above it: spaCy keeps what is in it, unless that is
    zeros. New weights of an upper layer are drawn in any case.

    model (Model): The model of a parser.
    """
    lower = model.get_ref("lower")
    if lower.has_param("W"):
        lower.set_param("W", lower.ops.alloc(lower.get_param("W").shape))


def forget_actions(model: Model) -> None:
    """Put a layer in the place of that of scores that may have any number of actions,
    before another one is loaded into it: spaCy would fit the old one into the new, or
    fail. It is a new one, so that neither gradients nor what an optimizer remembers are
    taken for its own.

    model (Model): The model of a parser.
    """
    place = "upper" if model.attrs["has_upper"] else "lower"
    scores = model.get_ref(place)
    sizes = {name: scores.maybe_get_dim(name) for name in scores.dim_names}
    fresh: Model = Model(
        scores.name,
        scores._func,
        init=scores.init,
        params=dict.fromkeys(scores.param_names),
        dims={**sizes, "nO": None},
        attrs=dict(scores.attrs),
        ops=scores.ops,
    )
    model._layers[model.layers.index(scores)] = fresh
    model.set_ref(place, fresh)
    model.attrs["unseen_classes"].clear()


def drop_gradients(model: Model) -> None:
    """Drop what was gathered and not stepped by, before another model was loaded.

    model (Model): The model of a parser.
    """
    for node in model.walk():
        for name in node.grad_names:
            node.set_grad(name, node.ops.alloc(node.get_param(name).shape))


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


@contextmanager
def unseen_in_cfg(pipe: Parser) -> Iterator[None]:
    """Within this context, the settings of a recognizer, which are saved with it, name
    the actions that were added after training and have not been seen since. They have
    scores of zero, which count as lower than all others until then. Thinc does not save
    which they are, so that spaCy's `ner` takes them for trained ones when it is loaded.

    pipe (Parser): The recognizer.
    """
    unseen = sorted(pipe.model.attrs.get("unseen_classes", ()))
    if unseen:
        pipe.cfg[_UNSEEN] = unseen
    try:
        yield
    finally:
        pipe.cfg.pop(_UNSEEN, None)


def take_unseen(pipe: Parser) -> List[int]:
    """RETURNS (List[int]): The actions that have not been seen, out of the settings
    that a recognizer has loaded.
    """
    unseen: List[int] = pipe.cfg.pop(_UNSEEN, [])
    return unseen
