"""A picture of a run of pretraining: `python -m benchmarks.curve LOG PICTURE`."""

import json
from pathlib import Path
from typing import Any, Dict, List

import typer

from .plot import save_picture

_TRAIN, _DEV, _RULE = "#9db8d6", "#1f5fa8", "#999999"


def main(
    log: Path = typer.Argument(  # noqa: B008
        ..., help="log.jsonl of the run", exists=True, dir_okay=False
    ),
    picture: Path = typer.Argument(  # noqa: B008
        ..., help="The PNG to write", dir_okay=False
    ),
) -> None:
    """Draw loss and accuracy over the steps."""
    # The last line may have been cut short: each that is whole ends.
    whole, _, _ = log.read_text(encoding="utf8").rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    records = [line for line in lines if "loss" in line]
    probe = next((line["probe"] for line in reversed(lines) if "probe" in line), None)
    draw(records, probe, picture)


def draw(records: List[Dict[str, Any]], probe: Any, path: Path) -> None:
    """records (List[Dict[str, Any]]): The evaluations.
    probe (Optional[Dict[str, Any]]): What was compared at the end.
    path (Path): The picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [record["step"] for record in records]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, key, title in (
        (axes[0], "loss", "cross-entropy of masked wordpieces, nats"),
        (axes[1], "accuracy", "accuracy on masked wordpieces"),
    ):
        train = [record[key] for record in records]
        axis.plot(steps, train, "o-", color=_TRAIN, markersize=3, label="training")
        if all(f"dev_{key}" in record for record in records):
            dev = [record[f"dev_{key}"] for record in records]
            axis.plot(steps, dev, "o-", color=_DEV, markersize=3, label="held out")
        if probe is not None:
            axis.axhline(
                probe["unigram"][key], color=_RULE, ls=":", label="frequency alone"
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("steps")
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    save_picture(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
