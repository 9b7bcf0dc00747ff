"""A picture of how time and memory grow with the length of a document."""

from pathlib import Path
from typing import Any, Sequence

from spacy_modernbert.atomic import replacing

from .rows import Row

_TIME, _MEMORY, _RULE = "#1f5fa8", "#b4561f", "#999999"


def draw_scaling(rows: Sequence[Row], window: int, path: Path) -> None:
    """Draw time and memory over lengths, both axes logarithmic: what grows with the
    length is a line at 45 degrees.

    rows (Sequence[Row]): Rows with `wordpieces`, `seconds` and `growth_mb`.
    window (int): Where a document no longer fits into one look.
    path (Path): The picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["seconds"] is not None]
    lengths = [row["wordpieces"] for row in rows]
    seconds = [row["seconds"] for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    axes[0].loglog(lengths, seconds, "o-", color=_TIME)
    axes[0].loglog(
        lengths,
        [seconds[-1] * length / lengths[-1] for length in lengths],
        ":",
        color=_RULE,
        label="in proportion to the length",
    )
    axes[0].set_title("seconds")
    with_memory = [row for row in rows if row.get("growth_mb") is not None]
    axes[1].semilogx(
        [row["wordpieces"] for row in with_memory],
        [row["growth_mb"] for row in with_memory],
        "o-",
        color=_MEMORY,
    )
    axes[1].set_ylim(bottom=0)
    axes[1].set_title("MB more at the peak")
    for axis in axes:
        axis.axvline(window, color=_RULE, linewidth=1, label="a window")
        axis.set_xlabel("wordpieces of the document")
        axis.set_xticks(lengths, [_thousands(length) for length in lengths])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    save_picture(figure, path)
    plt.close(figure)


def save_picture(figure: Any, path: Path) -> None:
    """Write a picture, whole or not at all.

    figure (Any): matplotlib's.
    path (Path): The PNG.
    """
    with replacing(path) as fresh:
        figure.savefig(fresh, dpi=110, format="png")


def _thousands(length: int) -> str:
    return f"{round(length / 1024)}k" if length >= 1024 else str(length)
