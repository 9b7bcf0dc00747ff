"""What a worker does in one pass. A job is a module, imported when it is needed."""

import importlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

from spacy_modernbert.types import Floats

from ..points import Point


@dataclass(frozen=True)
class Job:
    """A point that is ready to be timed.

    run (Callable[[], Any]): One pass. When it returns, the device has nothing left to
        do.
    vectors (Optional[Callable[[Any], Optional[Floats]]]): Of what `run` returned,
        `(total, width)`: what parity is checked by. None if nothing was encoded.
    facts (Dict[str, Any]): What the job found out, such as the wordpieces that it
        encodes. JSON.
    """

    run: Callable[[], Any]
    vectors: Optional[Callable[[Any], Optional[Floats]]]
    facts: Dict[str, Any]


def make_job(point: Point) -> Job:
    """RETURNS (Job): The point, loaded and warmed up by something short.
    RAISES (Unavailable): If the peer cannot be run here.
    """
    module = importlib.import_module(f".{point.job}", __name__)
    job: Job = module.make(point)
    return job
