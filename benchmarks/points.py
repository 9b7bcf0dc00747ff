"""What is measured: a peer, and the point at which a fresh process measures it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Mapping

OURS = "ours"


class Unavailable(Exception):
    """A peer cannot run here. The message is the reason that its row gives."""


@dataclass(frozen=True)
class Peer:
    """One way to run the encoder.

    name (str): What it is called in tables.
    engine (str): What runs it: a name in `engines.ENGINES` or `pipelines.PIPELINES`.
    device (str): "cpu", "cuda" or "mps". For our own engine, the backend.
    precision (str): What matrices are multiplied in: "float32", "bfloat16", "float16"
        or "int8".
    options (Mapping[str, Any]): What else the engine wants to know. JSON.
    """

    name: str
    engine: str
    device: str = "cpu"
    precision: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """RETURNS (bool): Whether it is what this package has made."""
        return self.engine == OURS


@dataclass(frozen=True)
class Point:
    """What one process measures.

    job (str): What a pass does: the name of a module in `jobs`.
    peer (Peer): Who does it.
    folder (str): The checkpoint.
    work (Mapping[str, Any]): What it is done to, as the job wants it. JSON.
    threads (int): The threads that every library may use.
    """

    job: str
    peer: Peer
    folder: str
    work: Mapping[str, Any]
    threads: int

    def to_json(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): For a pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Point":
        """RETURNS (Point): From a pipe."""
        return cls(**{**data, "peer": Peer(**data["peer"])})
