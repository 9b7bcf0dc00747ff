from typing import List, Optional

import pytest

from benchmarks.points import Peer, Point
from benchmarks.rounds import Measured, _count_first_passes


def measured(
    first: Optional[float], job: str = "encode", why_not: str = ""
) -> Measured:
    point = Point(job, Peer(f"{job} {first}", "ours"), "", {}, threads=1)
    return Measured(point, first=first, why_not=why_not)


@pytest.mark.parametrize(
    ("firsts", "count"),
    [([21.0, 70.0], True), ([19.0, 70.0], False), ([0.1, 0.2], False)],
)
def test_first_passes_count_for_all_or_for_none(
    firsts: List[float], count: bool
) -> None:
    """Nobody has to be quicker from the start than those who may warm up."""
    failed = measured(None, why_not="it failed")
    refused = measured(5.0, why_not="wrong vectors")
    products = measured(0.5, job="matrices")
    rows = [measured(first) for first in firsts]
    _count_first_passes([*rows, failed, refused, products])
    assert [row.seconds for row in rows] == [[each] if count else [] for each in firsts]
    assert not failed.seconds and not refused.seconds and not products.seconds
