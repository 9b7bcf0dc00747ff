"""What runs an encoder. An engine is a file, and its libraries are imported when it is
asked for: none needs those of another.
"""

import importlib
from pathlib import Path
from typing import Callable, Dict, List, Sequence

from spacy_modernbert.types import Floats

from ..documents import Ids
from ..points import OURS, Peer

# Documents in, their last hidden states out: for each `(length, width)`, on the host,
# so that whatever a device was asked to do is done when it returns.
Encode = Callable[[Sequence[Ids]], List[Floats]]

ENGINES: Dict[str, str] = {
    OURS: "ours",
    "transformers": "transformers_model",
    "openvino export": "openvino_export",
    "onnxruntime export": "onnxruntime_export",
    "packed-encoders": "packed_encoders_model",
}


def make_encode(peer: Peer, folder: Path, threads: int) -> Encode:
    """Load an encoder.

    peer (Peer): How it is to be run.
    folder (Path): The checkpoint.
    threads (int): The threads that it may use.
    RETURNS (Encode): The encoder.
    RAISES (Unavailable): If it cannot be run here.
    """
    module = importlib.import_module(f".{ENGINES[peer.engine]}", __name__)
    encode: Encode = module.make(peer, folder, threads)
    return encode
