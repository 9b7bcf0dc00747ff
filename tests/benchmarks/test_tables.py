from benchmarks.points import OURS, Peer, Point
from benchmarks.rounds import Measured, Patience
from benchmarks.rows import make_rows, ratios
from benchmarks.tables import SPEED, ratio_table, table


def measured(name: str, engine: str, seconds: list, **facts: int) -> Measured:
    point = Point("encode", Peer(name, engine), "folder", {}, threads=1)
    return Measured(point, facts=facts, seconds=seconds)


def limit(seconds: list, operations: int) -> Measured:
    row = measured("matrix products float32", "torch", seconds)
    row.facts["operations"] = operations
    return row


def test_a_row_has_the_median_and_its_share_of_the_limit() -> None:
    ours = measured("ours", OURS, [2.0, 1.0, 9.0], wordpieces=100, documents=4)
    (row,) = make_rows("w", [ours], flops=8_000, limits=[limit([1.0], 10_000)])
    assert row["seconds"] == 2.0
    assert (row["fastest"], row["slowest"], row["passes"]) == (1.0, 9.0, 3)
    assert row["per_second"] == 50
    assert row["documents_per_second"] == 2
    assert row["share"] == 0.4


def test_ratios_are_of_passes_of_the_same_round() -> None:
    # All were slow in the last round: by the medians, it would be 3.
    ours = measured("ours", OURS, [1.0, 1.0, 4.0])
    peer = measured("peer", "transformers", [2.0, 3.0, 8.0])
    failed = measured("failed", "transformers", [])
    failed.why_not = "not installed"
    (row,) = ratios([ours, peer, failed])
    assert row == {"peer": "ours", "faster_than": {"peer": 2.0}}
    assert "| ours | 2.00× |" in ratio_table([row])


def test_a_peer_that_failed_is_a_reason_and_no_figures() -> None:
    good = measured("good", OURS, [1.0], wordpieces=100)
    bad = measured("bad", "transformers", [])
    bad.why_not = "ended by signal 9"
    text = table(make_rows("w", [good, bad]), SPEED)
    assert "| good | 1 | 1 | 1 | 1 | 100 |" in text
    assert "- bad: ended by signal 9" in text
    assert "| bad" not in text


def test_a_peer_that_truncates_says_so() -> None:
    cuts = measured("cuts", "spacy-transformers", [1.0], documents=3, truncated=2)
    whole = measured("whole", OURS, [1.0], documents=3)
    text = table(make_rows("w", [whole, cuts]), SPEED)
    assert "| documents/s | truncated documents |" in text
    assert "| whole | 1 | 1 | 1 | 1 | 3 | |" in text
    assert "| cuts | 1 | 1 | 1 | 1 | 3 | 2 |" in text
    assert "truncated" not in table(make_rows("w", [whole]), SPEED)


def test_slow_passes_are_repeated_less() -> None:
    patience = Patience(repeats=5)
    assert not patience.is_enough([1.0] * 4)
    assert patience.is_enough([1.0] * 5)
    assert patience.is_enough([4.0] * 3)
    assert not patience.is_enough([25.0])
    assert patience.is_enough([25.0] * 2)
    assert patience.is_enough([70.0])
