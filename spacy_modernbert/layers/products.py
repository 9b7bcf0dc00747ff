"""Products of matrices, in the layers that are Thinc's own."""

from thinc.api import Model, NumpyOps

_NUMPY = NumpyOps(use_blis=False)


def multiply_by_numpy(model: Model) -> None:
    """Have the layers of a model multiply matrices by the BLAS that NumPy comes with.

    Thinc's own, BLIS, multiplies on one thread, and on many processors by a kernel that
    was compiled for any of them, at a third of the rate and less. What is multiplied
    stays what it is, up to rounding. Layers that are on a GPU, or have the ops of
    another package, are left as they are.

    model (Model): The model. spaCy puts new layers into that of a parser whenever it is
        given labels, so this is to be done before each use.
    """
    for node in model.walk():
        # Not a subclass, which has products of its own.
        if type(node.ops) is NumpyOps:
            node.ops = _NUMPY
