"""Rows as Markdown."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .markdown import make_table
from .rows import Row

Format = Callable[[Any], str]

# Header, key in a row, how its values are written.
Column = Tuple[str, str, Format]


def whole(value: Any) -> str:
    return f"{value:,.0f}"


def percent(value: Any) -> str:
    return f"{value:.0%}"


def digits(n: int) -> Format:
    return lambda value: f"{value:,.{n}f}"


def three(value: Any) -> str:
    """RETURNS (str): Three significant digits at least, and no more than make sense."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cosine(value: Any) -> str:
    return f"{value:.5f}"


SPEED: Sequence[Column] = (
    ("", "peer", str),
    ("seconds", "seconds", three),
    ("fastest", "fastest", three),
    ("slowest", "slowest", three),
    ("passes", "passes", whole),
    ("wordpieces/s", "per_second", whole),
    ("tokens/s", "tokens_per_second", whole),
    ("documents/s", "documents_per_second", three),
    ("truncated documents", "truncated", whole),
    ("GFLOP/s", "gflops", whole),
    ("matrix products", "limit_gflops", whole),
    ("share", "share", percent),
    ("cosine", "least_cosine", cosine),
    ("memory, MB", "growth_mb", whole),
    ("peak, MB", "peak_mb", whole),
)

LENGTHS: Sequence[Column] = (("wordpieces", "wordpieces", whole), *SPEED[1:])

ACCURACY: Sequence[Column] = (
    ("", "peer", str),
    ("least cosine", "least_cosine", cosine),
    ("mean cosine", "mean_cosine", cosine),
    ("largest difference", "most_error", three),
)


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A table of those rows that have figures, and a list of the reasons of the others.

    rows (Sequence[Row]): The rows.
    columns (Sequence[Column]): The columns. Those that no row has are left out.
    RETURNS (str): Markdown.
    """
    shown = [row for row in rows if not row.get("why_not")]
    columns = [
        column
        for column in columns
        if any(row.get(column[1]) is not None for row in shown)
    ]
    lines: List[str] = []
    if shown:
        lines += make_table(
            [column[0] for column in columns],
            [[_cell(row.get(key), form) for _, key, form in columns] for row in shown],
        )
    reasons = [f"- {row['peer']}: {row['why_not']}" for row in rows if row["why_not"]]
    if reasons:
        lines += ["", "Not measured:", "", *reasons]
    return "\n".join(lines)


def ratio_table(rows: Sequence[Row]) -> str:
    """RETURNS (str): How many times faster each of ours (a line) is than each peer (a
    column).
    """
    peers: Dict[str, None] = {}
    for row in rows:
        peers.update(dict.fromkeys(row["faster_than"]))
    if not peers:
        return ""
    cells = [
        [row["peer"], *(_cell(row["faster_than"].get(peer), _times) for peer in peers)]
        for row in rows
    ]
    return "\n".join(make_table(["times as fast as", *peers], cells))


def _times(value: float) -> str:
    return f"{value:.2f}×"


def _cell(value: Optional[Any], form: Format) -> str:
    return "" if value is None else form(value)
