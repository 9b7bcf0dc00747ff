"""`python -m benchmarks`: one runner for all of them."""

from pathlib import Path
from typing import List, Optional

import typer
from wasabi import msg

from . import encoder as encoder_part
from .results import RESULTS, Results
from .rounds import Patience
from .session import Session, temporary_store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure the package beside its peers. Options come before the part.",
)


@app.callback()
def main(
    context: typer.Context,
    shape: str = typer.Option("base", help="A file of configs/encoders"),
    device: str = typer.Option("auto", help="cpu, cuda or mps; auto takes the best"),
    threads: int = typer.Option(2, min=1, help="Threads of every library"),
    repeats: int = typer.Option(5, min=1, help="The most passes of a peer"),
    timeout: float = typer.Option(600.0, help="Seconds that a pass may take"),
    quick: bool = typer.Option(False, help="Try everything, on short documents"),
    anyway: bool = typer.Option(
        False, help="Time what means nothing on this machine, too"
    ),
    peers: Optional[List[str]] = typer.Option(  # noqa: B008
        None, help="Only peers with this in their name; may be repeated, `*` matches"
    ),
    tokenizer: Optional[Path] = typer.Option(  # noqa: B008
        None, help="Folder with the published tokenizer; else one is learned"
    ),
    corpora: Path = typer.Option(  # noqa: B008
        Path("assets"), help="Folder with archives of LitBank and CRAFT"
    ),
    store: Optional[Path] = typer.Option(  # noqa: B008
        None, help="Folder for checkpoints and exports; else they are thrown away"
    ),
    output: Path = typer.Option(RESULTS, help="Folder for the results"),  # noqa: B008
) -> None:
    if device == "auto":
        device = _best_device()
    context.obj = Session(
        shape="mini" if quick and shape == "base" else shape,
        device=device,
        threads=threads,
        patience=Patience(
            repeats=min(repeats, 2) if quick else repeats, timeout=timeout
        ),
        quick=quick,
        anyway=anyway,
        only=tuple(peers or ()),
        tokenizer=tokenizer,
        corpora=corpora,
        store=context.with_resource(temporary_store(store)),
        output=output,
    )


@app.command()
def encoder(
    context: typer.Context,
    lengths: str = typer.Option("512,2048,8192", help="Wordpieces, with commas"),
    mixed: bool = typer.Option(True, help="The mixed batch, too"),
) -> None:
    """The encoder alone, every way to run it."""
    session: Session = context.obj
    numbers = (
        [300] if session.quick else [int(part) for part in lengths.split(",") if part]
    )
    _write(session, encoder_part.run(session, numbers, mixed))


def _write(session: Session, results: Results) -> None:
    msg.good(f"Wrote {results.write(session.output)}")


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
