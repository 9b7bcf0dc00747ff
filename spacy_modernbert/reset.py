"""A recognizer that starts from scratch, of which spaCy's parser would keep some of
what it has learned.
"""

from thinc.api import Model


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
