"""Tables in Markdown."""

from typing import Collection, List, Sequence


def make_table(
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    words: Collection[int] = (0,),
) -> List[str]:
    """Write a table.

    header (Sequence[str]): What the columns are called.
    cells (Sequence[Sequence[str]]): The rows, each with a cell for every column.
    words (Collection[int]): The columns of words, which begin at the left. Others are
        of numbers, which end at the right.
    RETURNS (List[str]): The lines.
    """
    rule = ["---" if i in words else "---:" for i in range(len(header))]
    return [_line(row) for row in (header, rule, *cells)]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
