"""From what was measured to the rows of a table. A row is a dict that goes into the
JSON as it is.
"""

from dataclasses import asdict
from statistics import median
from typing import Any, Dict, List, Optional, Sequence

from .rounds import Measured

Row = Dict[str, Any]

# What a job counts, and what it is called by the second.
_RATES = {
    "wordpieces": "per_second",
    "tokens": "tokens_per_second",
    "documents": "documents_per_second",
}


def make_rows(
    workload: str,
    measured: Sequence[Measured],
    flops: Optional[int] = None,
    limits: Sequence[Measured] = (),
) -> List[Row]:
    """Make a row of each peer.

    workload (str): What was done.
    measured (Sequence[Measured]): What came out, of one workload.
    flops (Optional[int]): The floating-point operations that the workload needs.
    limits (Sequence[Measured]): The matrix products of the same run.
    RETURNS (List[Row]): The rows, in the order of the peers.
    """
    rates = {limit.point.peer.precision: _matrix_rate(limit) for limit in limits}
    return [
        _make_row(workload, row, flops, rates.get(row.point.peer.precision))
        for row in measured
    ]


def make_limit_rows(workload: str, limits: Sequence[Measured]) -> List[Row]:
    """RETURNS (List[Row]): The matrix products themselves."""
    return [
        {
            "workload": workload,
            "peer": limit.point.peer.name,
            "precision": limit.point.peer.precision,
            "gflops": None if (rate := _matrix_rate(limit)) is None else rate / 1e9,
            **_spread(limit),
            "why_not": limit.why_not,
        }
        for limit in limits
    ]


def ratios(measured: Sequence[Measured]) -> List[Row]:
    """How many times faster each of ours is than each peer.

    Both took a pass in each round: the ratio is the median over the rounds, so that
    what slowed a round down slows both sides of it.

    measured (Sequence[Measured]): What came out, of one workload.
    RETURNS (List[Row]): A row for each of ours, with `faster_than` by peer.
    """
    timed = [row for row in measured if row.median is not None]
    peers = [row for row in timed if not row.point.peer.is_ours]
    return [
        {
            "peer": row.point.peer.name,
            "faster_than": {
                peer.point.peer.name: _ratio(peer.seconds, row.seconds)
                for peer in peers
            },
        }
        for row in timed
        if row.point.peer.is_ours
    ]


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    # A slow peer was asked for fewer passes.
    if len(theirs) != len(ours):
        return median(theirs) / median(ours)
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def _make_row(
    workload: str, measured: Measured, flops: Optional[int], rate: Optional[float]
) -> Row:
    seconds = measured.median
    row: Row = {
        "workload": workload,
        "peer": measured.point.peer.name,
        "ours": measured.point.peer.is_ours,
        "device": measured.point.peer.device,
        "precision": measured.point.peer.precision,
        **measured.facts,
        **_spread(measured),
        "why_not": measured.why_not,
    }
    if measured.parity is not None:
        row.update(asdict(measured.parity))
    if seconds is not None:
        row["growth_mb"] = None if measured.growth is None else measured.growth / 1e6
        row["peak_mb"] = None if measured.peak is None else measured.peak / 1e6
        for fact, name in _RATES.items():
            if fact in measured.facts:
                row[name] = measured.facts[fact] / seconds
        if flops is not None:
            row["gflops"] = flops / seconds / 1e9
            if rate is not None:
                row["limit_gflops"] = rate / 1e9
                row["share"] = flops / seconds / rate
    return row


def _matrix_rate(limit: Measured) -> Optional[float]:
    if limit.median is None:
        return None
    return float(limit.facts["operations"]) / limit.median


def _spread(measured: Measured) -> Row:
    if measured.median is None:
        return {"seconds": None}
    return {
        "seconds": measured.median,
        "fastest": min(measured.seconds),
        "slowest": max(measured.seconds),
        "passes": len(measured.seconds),
        "first_pass": measured.first,
        "each": measured.seconds,
    }
