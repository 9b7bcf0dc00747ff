"""Peers take turns, pass by pass, so that other load on the machine slows all of them.

Every peer has a process of its own. All are started and loaded, one after another;
then each does one pass in each round, while the others wait. In the first round, the
vectors of each are compared with those of the reference: the first peer, or one that is
started before, for its vectors alone. Who disagrees is not timed.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from spacy_modernbert.encoder.comparing import Parity, compare

from .parity import objection
from .points import Point
from .process import Failed, Process


@dataclass(frozen=True)
class Patience:
    """How long to measure.

    repeats (int): The most passes of a peer that count.
    timeout (float): Seconds after which a pass, or loading, has failed.
    """

    repeats: int = 5
    timeout: float = 600.0

    def is_enough(self, seconds: Sequence[float]) -> bool:
        """RETURNS (bool): Whether these passes will do: as many as are wanted, or three
        that take more than ten seconds together, two if one takes more than 20 seconds,
        one if it takes more than a minute.
        """
        n, slowest = len(seconds), max(seconds, default=0.0)
        few = 1 if slowest > 60 else 2 if slowest > 20 else 3
        return n >= self.repeats or (n >= few and sum(seconds) > 10)


# Where the first pass of each peer took longer than this, first passes count.
_COUNTS = 20.0


@dataclass
class Measured:
    """What came out for a peer.

    point (Point): What was measured.
    facts (Dict[str, Any]): What its job found out.
    first (Optional[float]): Seconds of the first pass, whether it counts or not.
    seconds (List[float]): Of each pass that counts.
    growth (Optional[int]): Bytes that the memory grew by in the first pass.
    peak (Optional[int]): Bytes that were held at most in the first pass.
    parity (Optional[Parity]): How far its vectors agree with the reference.
    why_not (str): Why there are no figures; empty if there are.
    """

    point: Point
    facts: Dict[str, Any] = field(default_factory=dict)
    first: Optional[float] = None
    seconds: List[float] = field(default_factory=list)
    growth: Optional[int] = None
    peak: Optional[int] = None
    parity: Optional[Parity] = None
    why_not: str = ""

    @property
    def precision(self) -> str:
        """RETURNS (str): What matrices are multiplied in."""
        return self.point.peer.precision

    @property
    def median(self) -> Optional[float]:
        """RETURNS (Optional[float]): Seconds of a pass, if there are figures."""
        return median(self.seconds) if self.seconds and not self.why_not else None


def run_rounds(
    points: Sequence[Point],
    patience: Patience,
    tell: Callable[[str], None],
    reference: Optional[Point] = None,
    *,
    refuse: bool = True,
) -> List[Measured]:
    """Measure points in turns.

    points (Sequence[Point]): The points.
    patience (Patience): How long.
    tell (Callable[[str], None]): Is told what goes on.
    reference (Optional[Point]): The point whose vectors are right. None compares
        nothing.
    refuse (bool): Whether who disagrees with it is left out.
    RETURNS (List[Measured]): What came out, in the order of the points.
    """
    measured = [Measured(point) for point in points]
    running: Dict[int, Process] = {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        try:
            wanted = _find_wanted(reference, points, patience, folder, tell)
            judge = _Judge(reference, wanted, refuse)
            for i, row in enumerate(measured):
                process = _start(row, patience, tell)
                if process is not None:
                    running[i] = process
            for i, process in running.items():
                _run_first(measured[i], process, patience, judge, folder / f"{i}.npy")
            _count_first_passes(measured)
            _end_those_done(measured, running, patience, tell)
            while running:
                for i, process in running.items():
                    _run_one(measured[i], process, patience)
                _end_those_done(measured, running, patience, tell)
        finally:
            for process in running.values():
                process.end()
    return measured


@dataclass
class _Judge:
    """Compares vectors with the right ones.

    reference (Optional[Point]): The point whose vectors are right. None compares
        nothing.
    wanted (Any): The right vectors. None until the reference has given them, or if it
        fails.
    refuse (bool): Whether who disagrees is left out.
    """

    reference: Optional[Point]
    wanted: Any
    refuse: bool

    def is_for(self, point: Point) -> bool:
        """RETURNS (bool): Whether there is something to compare: matrix products encode
        nothing.
        """
        return self.reference is not None and point.job == self.reference.job

    def judge(self, row: Measured, found: Any) -> None:
        """Compare vectors, or take those of the reference.

        row (Measured): Is told what comes out.
        found (NDArray): Its vectors.
        """
        if row.point == self.reference:
            self.wanted = found
            return
        if self.wanted is None:
            row.why_not = "not timed: the reference failed, nothing to compare with"
            return
        try:
            row.parity = compare(found, self.wanted)
        except ValueError as error:
            row.why_not = str(error)
            return
        if self.refuse:
            row.why_not = objection(row.parity, row.precision)


def _find_wanted(
    reference: Optional[Point],
    points: Sequence[Point],
    patience: Patience,
    folder: Path,
    tell: Callable[[str], None],
) -> Any:
    """The right vectors, by a process of their own where the reference is not among
    the points that are timed; None where it is, or if it fails.
    """
    if reference is None or points[:1] == [reference]:
        return None
    row = Measured(reference)
    process = _start(row, patience, tell)
    if process is None:
        return None
    save = folder / "reference.npy"
    try:
        process.take_pass(patience.timeout, save)
        return np.load(save)
    except Failed as reason:
        tell(f"{reference.peer.name}: {reason}")
        return None
    finally:
        process.end()


def _start(
    row: Measured, patience: Patience, tell: Callable[[str], None]
) -> Optional[Process]:
    tell(f"{row.point.peer.name}: loading")
    on_cuda = row.point.peer.device == "cuda"
    process = Process(row.point, limit_memory=not on_cuda)
    try:
        row.facts = process.prepare(patience.timeout)
    except Failed as reason:
        row.why_not = str(reason)
        tell(_describe(row))
        process.end()
        return None
    return process


def _run_first(
    row: Measured, process: Process, patience: Patience, judge: _Judge, save: Path
) -> None:
    """Make the first pass of a peer, and have its vectors judged."""
    is_compared = judge.is_for(row.point)
    try:
        answer = process.take_pass(patience.timeout, save if is_compared else None)
    except Failed as reason:
        row.why_not = str(reason)
        return
    row.first, row.growth, row.peak = (
        answer[key] for key in ("seconds", "growth", "peak")
    )
    if is_compared:
        judge.judge(row, np.load(save))
        save.unlink()


def _run_one(row: Measured, process: Process, patience: Patience) -> None:
    """Make one of the later passes of a peer."""
    try:
        answer = process.take_pass(patience.timeout, None)
    except Failed as reason:
        row.why_not = str(reason)
        return
    row.seconds.append(answer["seconds"])


def _end_those_done(
    measured: Sequence[Measured],
    running: Dict[int, Process],
    patience: Patience,
    tell: Callable[[str], None],
) -> None:
    """End the processes of peers that have made enough passes, or cannot go on.

    measured (Sequence[Measured]): All peers.
    running (Dict[int, Process]): Their processes. Those that end are taken out.
    """
    for i, process in list(running.items()):
        row = measured[i]
        if row.why_not or patience.is_enough(row.seconds):
            tell(_describe(row))
            process.end()
            del running[i]


def _count_first_passes(measured: Sequence[Measured]) -> None:
    """A first pass finds less prepared than later ones. So those of one job count for
    all peers or for none: where each took so long that it would take too long to repeat
    them all.

    measured (Sequence[Measured]): After the first round.
    """
    for job in {row.point.job for row in measured}:
        rows = [row for row in measured if row.point.job == job and not row.why_not]
        firsts = [row.first for row in rows if row.first is not None]
        if firsts and min(firsts) > _COUNTS:
            for row, first in zip(rows, firsts, strict=True):
                row.seconds.append(first)


def _describe(row: Measured) -> str:
    if row.why_not:
        return f"{row.point.peer.name}: {row.why_not}"
    if row.median is None:
        return f"{row.point.peer.name}: done"
    return f"{row.point.peer.name}: {row.median:.3f} s, {len(row.seconds)} passes"
