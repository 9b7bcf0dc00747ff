"""packed-encoders (https://github.com/pau-mensa/packed-encoders): transformers' model
with fused kernels on packed sequences, for CUDA.
"""

from pathlib import Path

from ..points import Peer, Unavailable
from . import Encode
from .transformers_model import load, load_pad_id, padded


def make(peer: Peer, folder: Path, threads: int) -> Encode:
    try:
        import packed_encoders
    except ImportError as error:
        raise Unavailable("packed-encoders is not installed") from error
    model = load(peer, folder)
    pad_id = load_pad_id(model)
    try:
        packed_encoders.pack(model)  # in place; it validates the setup
    except (RuntimeError, ValueError) as error:
        raise Unavailable(f"packed-encoders refuses: {error}") from error
    return padded(model, peer, pad_id)
