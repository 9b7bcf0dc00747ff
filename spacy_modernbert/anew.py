"""A recognizer that begins anew: spaCy's parser keeps some of what it has learned."""

from contextlib import contextmanager
from typing import Iterator, cast

from spacy.pipeline.transition_parser import Parser
from thinc.api import Model


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
    """Within this context, what fails, or is interrupted, leaves the actions and the
    weights of a recognizer as they were. Encoders see to themselves.

    pipe (Parser): The recognizer.
    """
    model, moves = pipe.model, pipe.moves
    labels = {action: dict(counts) for action, counts in moves.labels.items()}
    layers, unseen = list(model.layers), set(model.attrs["unseen_classes"])
    # Initializing puts new arrays in their places, so that none has to be copied.
    params = [
        (node, name, node.get_param(name) if node.has_param(name) else None)
        for node in model.walk()
        for name in node.param_names
    ]
    try:
        yield
    except BaseException:
        moves.initialize_actions(labels)
        model._layers[:] = layers
        for name, layer in zip(("tok2vec", "lower", "upper"), layers, strict=True):
            model.set_ref(name, layer)
        for node, name, values in params:
            node.set_param(name, values)
        model.attrs["unseen_classes"].clear()
        model.attrs["unseen_classes"].update(unseen)
        raise
