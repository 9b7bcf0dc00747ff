"""An attribute of a Thinc layer that is not saved with it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unsaved:
    """Holds a value. Thinc saves a plain one with the weights of a layer, and gives it
    to the layer that they are loaded into, whatever a config says of that. An object
    that it does not know is left alone.

    value (Any): What the layer is to know.
    """

    value: Any
