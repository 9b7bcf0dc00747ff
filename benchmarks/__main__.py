"""`python -m benchmarks`: one runner for all of them."""

from dataclasses import replace
from pathlib import Path
from typing import List, Optional, Sequence

import typer
from wasabi import msg

from spacy_modernbert.encoder.checkpoint import TOKENIZER
from spacy_modernbert.encoder.config import SIZES_FOLDER

from . import accuracy as accuracy_part
from . import embeddings as embeddings_part
from . import encoder as encoder_part
from . import lengths as lengths_part
from . import pipeline as pipeline_part
from . import training as training_part
from .plot import draw_scaling
from .rounds import Patience
from .session import Session, temporary_store
from .targets import write_targets
from .texts import find_archive

_DEVICES = ("auto", "cpu", "cuda", "mps")


def _check_shape(shape: str) -> str:
    known = sorted(path.stem for path in SIZES_FOLDER.glob("*.json"))
    if shape not in known:
        raise typer.BadParameter(f"{shape} is not one of {', '.join(known)}")
    return shape


def _check_device(device: str) -> str:
    if device not in _DEVICES:
        known = ", ".join(_DEVICES)
        raise typer.BadParameter(f"{device} is not one of {known}")
    return device


def _check_tokenizer(folder: Optional[Path]) -> Optional[Path]:
    if folder is not None and not (folder / TOKENIZER).is_file():
        raise typer.BadParameter(f"{folder} has no {TOKENIZER}")
    return folder


def _check_lengths(lengths: str) -> str:
    try:
        numbers = _numbers(lengths)
    except ValueError as error:
        raise typer.BadParameter(f"{lengths} is not a list like 512,2048") from error
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"{lengths} has numbers below 1, or none")
    return lengths


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure the package beside its peers. Options come before the part.",
)


@app.callback()
def main(
    context: typer.Context,
    shape: str = typer.Option(
        "base", help="Size of the encoders, of random weights", callback=_check_shape
    ),
    device: str = typer.Option(
        "auto", help="cpu, cuda or mps; auto takes the best", callback=_check_device
    ),
    threads: int = typer.Option(2, min=1, help="Threads of every library"),
    repeats: int = typer.Option(5, min=1, help="The most passes of a peer"),
    timeout: float = typer.Option(600.0, help="Seconds that a pass may take"),
    quick: bool = typer.Option(False, help="Try everything on short documents"),
    anyway: bool = typer.Option(
        False, help="Also time what is not meaningful on this machine"
    ),
    peers: Optional[List[str]] = typer.Option(  # noqa: B008
        None, help="Only peers with this in their name; repeatable, `*` is a wildcard"
    ),
    tokenizer: Optional[Path] = typer.Option(  # noqa: B008
        None,
        help="Folder with the published tokenizer; else one is learned",
        callback=_check_tokenizer,
    ),
    corpora: Path = typer.Option(  # noqa: B008
        Path("assets"),
        help="Folder with archives of LitBank and CRAFT",
        exists=True,
        file_okay=False,
    ),
    store: Optional[Path] = typer.Option(  # noqa: B008
        None,
        help="Folder for checkpoints and exports; else they are deleted",
        file_okay=False,
    ),
    output: Path = typer.Option(  # noqa: B008
        Path("metrics/benchmarks"),
        help="Folder for the results of this machine",
        file_okay=False,
    ),
) -> None:
    if device == "auto":
        device = _best_device()
    context.obj = Session(
        shape="micro" if quick and shape == "base" else shape,
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


_LENGTHS = typer.Option(
    "512,2048,8192", help="Wordpieces, with commas", callback=_check_lengths
)
_DOCUMENTS = typer.Option(None, min=1, help="Only this many documents, from the first")


@app.command()
def encoder(
    context: typer.Context,
    lengths: str = _LENGTHS,
    mixed: bool = typer.Option(True, help="Also measure the mixed batch"),
) -> None:
    """The encoder alone, in every way to run it, beside the rate of matrix products."""
    session: Session = context.obj
    numbers = [300] if session.quick else _numbers(lengths)
    encoder_part.run(session, numbers, mixed)


@app.command()
def pipeline(
    context: typer.Context,
    corpus: List[str] = typer.Option(  # noqa: B008
        ["litbank", "craft"], help="litbank or craft; repeatable"
    ),
    documents: Optional[int] = _DOCUMENTS,
    mixed: bool = typer.Option(True, help="Also measure the mixed batch"),
) -> None:
    """nlp.pipe on whole documents, beside spacy-transformers."""
    session: Session = context.obj
    corpora = [] if session.quick else corpus
    _check_corpora(session, corpora)
    pipeline_part.run(session, corpora, documents, mixed)


@app.command()
def host(context: typer.Context, documents: Optional[int] = _DOCUMENTS) -> None:
    """nlp.pipe with an encoder that takes no time, on one thread."""
    session: Session = replace(context.obj, threads=1)
    if not session.quick:
        _check_corpora(session, ["litbank"])
    pipeline_part.run_host(session, documents)


@app.command()
def training(context: typer.Context) -> None:
    """A step of training on one document of 4,096 wordpieces."""
    session: Session = context.obj
    training_part.run(session)


@app.command()
def memory(context: typer.Context) -> None:
    """How much memory one document of 8,192 wordpieces takes."""
    session: Session = context.obj
    lengths_part.run_memory(session)


@app.command()
def scaling(
    context: typer.Context,
    lengths: str = typer.Option(
        ",".join(map(str, lengths_part.ALL)),
        help="Wordpieces, with commas",
        callback=_check_lengths,
    ),
) -> None:
    """Time and memory over lengths, as a table and a picture."""
    session: Session = context.obj
    numbers = [64, 300] if session.quick else _numbers(lengths)
    results = lengths_part.run_scaling(session, numbers)
    picture = session.output / f"{results.name}.png"
    draw_scaling(results.sections[0].rows, lengths_part.MEMORY, picture)


@app.command()
def accuracy(context: typer.Context, lengths: str = _LENGTHS) -> None:
    """How far precisions and quantizations are from float32."""
    session: Session = context.obj
    numbers = [300] if session.quick else _numbers(lengths)
    accuracy_part.run(session, numbers)


@app.command()
def embeddings(context: typer.Context) -> None:
    """Vectors of documents: the mean over their wordpieces."""
    session: Session = context.obj
    embeddings_part.run(session)


@app.command()
def targets(context: typer.Context) -> None:
    """The targets of the package, and whether the results reach them."""
    session: Session = context.obj
    try:
        print(write_targets(session.output))
    except ValueError as error:
        msg.fail(str(error), exits=1)


@app.command("all")
def everything(
    context: typer.Context,
    documents: int = typer.Option(4, min=1, help="Documents of LitBank"),
) -> None:
    """All parts, one after another, with few documents of LitBank. Without its archive,
    what needs it is left out.
    """
    session: Session = context.obj
    corpora = []
    if not session.quick:
        try:
            find_archive("litbank", session.corpora)
            corpora = ["litbank"]
        except FileNotFoundError as error:
            msg.warn(f"{error} Its documents, and the part `host`, are left out.")
    encoder(context, "512,2048,8192", True)
    pipeline(context, corpora, documents, True)
    training(context)
    memory(context)
    accuracy(context, "512")
    if corpora:
        host(context, None)
    targets(context)


def _check_corpora(session: Session, names: Sequence[str]) -> None:
    """Fail before any work if an archive is missing."""
    try:
        for name in names:
            find_archive(name, session.corpora)
    except FileNotFoundError as error:
        msg.fail(str(error), exits=1)


def _numbers(text: str) -> List[int]:
    return [int(part) for part in text.split(",") if part.strip()]


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
