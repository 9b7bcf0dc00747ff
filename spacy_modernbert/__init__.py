"""ModernBERT for spaCy. Importing this package imports neither torch nor mlx."""

from .about import __version__

__all__ = ["__version__"]
