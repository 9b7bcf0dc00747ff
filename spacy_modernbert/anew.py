"""A recognizer that begins anew: spaCy's parser keeps some of what it has learned."""

from contextlib import contextmanager
from typing import Callable, Iterator, List, cast

from spacy.pipeline.transition_parser import Parser
from thinc.api import Model

# A setting of saved recognizers.
_UNSEEN = "unseen_actions"


def reset_lower(model: Model) -> None:
    """Let the next initialization draw the lower layer anew, which is that of scores if
    there is none above it: spaCy keeps what is in it, unless that is zeros. An upper
    layer is drawn anew in any case.

    model (Model): The model of a parser.
    """
    lower = model.get_ref("lower")
    if lower.has_param("W"):
        lower.set_param("W", lower.ops.alloc(lower.get_param("W").shape))


def forget_actions(model: Model) -> None:
    """Let the layer of scores have any number of actions, before another one is loaded
    into it: spaCy would fit the old one into the new, or fail.

    model (Model): The model of a parser.
    """
    scores = model.get_ref("upper" if model.attrs["has_upper"] else "lower")
    for name in scores.param_names:
        scores.set_param(name, None)
    scores.set_dim("nO", cast(int, None), force=True)
    model.attrs["unseen_classes"].clear()


@contextmanager
def undone_if_it_fails(pipe: Parser) -> Iterator[None]:
    """Within this context, what fails, or is interrupted, leaves a recognizer as it
    was: its actions, its settings, its weights and its encoder.

    pipe (Parser): The recognizer.
    """
    undo = _remember(pipe)
    try:
        yield
    except BaseException:
        undo()
        raise


def _remember(pipe: Parser) -> Callable[[], None]:
    """RETURNS (Callable[[], None]): Makes a recognizer what it is now."""
    model, moves = pipe.model, pipe.moves
    labels = {action: dict(counts) for action, counts in moves.labels.items()}
    layers, unseen = list(model.layers), set(model.attrs["unseen_classes"])
    # Initializing and loading put new arrays, encoders and values in the places of the
    # old ones, so that none has to be copied.
    cfg = dict(pipe.cfg)
    nodes = [_remember_node(node) for node in model.walk()]
    shims = [(shim, dict(vars(shim))) for node in model.walk() for shim in node.shims]

    def undo() -> None:
        moves.initialize_actions(labels)
        pipe.cfg.clear()
        pipe.cfg.update(cfg)
        model._layers[:] = layers
        for name, layer in zip(("tok2vec", "lower", "upper"), layers, strict=True):
            model.set_ref(name, layer)
        for undo_node in nodes:
            undo_node()
        for shim, values in shims:
            vars(shim).update(values)
        model.attrs["unseen_classes"].clear()
        model.attrs["unseen_classes"].update(unseen)

    return undo


def _remember_node(node: Model) -> Callable[[], None]:
    """RETURNS (Callable[[], None]): Makes a layer what it is now."""
    name, attrs = node.name, dict(node.attrs)
    dims = {key: node.maybe_get_dim(key) for key in node.dim_names}
    params = {key: node.maybe_get_param(key) for key in node.param_names}

    def undo() -> None:
        node.name = name
        node.attrs.clear()
        node.attrs.update(attrs)
        # Without parameters, dimensions may change.
        for key in params:
            node.set_param(key, None)
        for key, size in dims.items():
            node.set_dim(key, cast(int, size), force=True)
        for key, values in params.items():
            node.set_param(key, values)

    return undo


@contextmanager
def unseen_in_cfg(pipe: Parser) -> Iterator[None]:
    """Within this context, the settings of a recognizer, which are saved with it, name
    the actions that were added after training and have not been seen since. They have
    scores of zero, which count as lower than all others until then. Thinc does not save
    which they are, so that spaCy's `ner` takes them for trained ones when it is loaded.

    pipe (Parser): The recognizer.
    """
    unseen = sorted(pipe.model.attrs["unseen_classes"])
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
