"""`python -m experiments`: run experiments, and write their table."""

import subprocess
from pathlib import Path
from typing import List, Optional

import typer
from wasabi import msg

from spacy_modernbert.atomic import write_text
from spacy_modernbert.corpora.splits import SPLITS
from spacy_modernbert.paths import expanding

from .cells import EXPERIMENTS, SEEDS, STEPS, cells_of
from .run import Settings, is_done, read_record, run_cell
from .table import make_page

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

RESULTS = Path(__file__).parent / "results"
PAGE = "README.md"

# Of training on a corpus of one's own.
_STEPS = 300


@app.command()
@expanding
def run(
    experiment: str = typer.Argument(
        ..., help=f"One of: {', '.join(EXPERIMENTS)}", show_default=False
    ),
    corpora: Optional[List[str]] = typer.Option(  # noqa: B008
        None, "--corpus", help="Folders of corpus/. Default: those of the experiment"
    ),
    seeds: List[int] = typer.Option(list(SEEDS), "--seed", help="Seeds"),  # noqa: B008
    steps: Optional[int] = typer.Option(
        None, min=1, help="Training steps of the reference"
    ),
    encoder: Path = typer.Option(  # noqa: B008
        Path("assets/modernbert-mini"), help="The pretrained encoder"
    ),
    results: Path = typer.Option(  # noqa: B008
        RESULTS, help="Folder for the records", file_okay=False
    ),
    work: Path = typer.Option(  # noqa: B008
        Path("training/experiments"), help="Folder for the pipelines"
    ),
    threads: int = typer.Option(2, min=1, help="Threads of every library"),
    gpu_id: int = typer.Option(
        -1, help="GPU for spacy-transformers, or -1; our recipes find one by themselves"
    ),
    force: bool = typer.Option(
        False,
        "--force",
        "-F",
        help="Replace what was run with other steps, encoder or recipe",
    ),
) -> None:
    """Run those pipelines of an experiment that have not been run yet. It can be
    stopped at any time: the record of each pipeline that has been tested is kept.
    """
    if experiment not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        msg.fail(f"There is no experiment {experiment}. There are: {known}", exits=1)
    chosen = EXPERIMENTS[experiment]
    names = corpora or chosen.corpora
    for name in names:
        _check_corpus(name)
    for cell in cells_of(chosen, names, seeds):
        settings = Settings(
            steps=steps or STEPS.get(cell.corpus, _STEPS),
            encoder=encoder,
            corpora=Path("corpus"),
            recipes=Path("configs"),
            work=work,
            results=results,
            threads=threads,
            gpu_id=gpu_id,
        )
        msg.divider(cell.name)
        try:
            if is_done(cell, settings):
                msg.info("Already done")
                continue
            if read_record(cell, results) and not force:
                msg.warn(
                    "Already done with other steps, encoder, recipe or documents. That "
                    "record is kept. To replace it, give --force; to keep both, "
                    "--results"
                )
                continue
            record = run_cell(cell, settings)
        except (LookupError, OSError, ValueError) as error:
            msg.fail(str(error), exits=1)
        except subprocess.CalledProcessError as error:
            msg.fail(f"{cell.name}: {error}", exits=1)
        except KeyboardInterrupt:
            msg.warn("Stopped. Rerun the same command to continue.")
            raise typer.Exit(130) from None
        minutes = record["train_seconds"] / 60
        f_score = 100 * record["test"]["f"]
        msg.good(f"{cell.name}: F {f_score:.2f} after {minutes:.1f} minutes")
    _write_page(results)


@app.command()
def table(
    results: Path = typer.Option(  # noqa: B008
        RESULTS, help="Folder with the records", exists=True, file_okay=False
    ),
) -> None:
    """Write the table of what has been run so far."""
    _write_page(results)


def _check_corpus(name: str) -> None:
    # Records are named after it.
    if Path(name).name != name:
        msg.fail(
            f"A corpus is the name of a folder of corpus/ and no path, but --corpus is "
            f"{name}. Put the folder there, and give its name.",
            exits=1,
        )
    for split in SPLITS:
        path = Path("corpus") / name / f"{split}.spacy"
        if path.is_file():
            continue
        how = (
            f"Make it first: python -m spacy project run corpus . --vars.corpus {name}"
            if name in STEPS
            else f"The project makes {', '.join(STEPS)}. For another corpus, put "
            "train.spacy, dev.spacy and test.spacy there."
        )
        msg.fail(f"There is no {path}. {how}", exits=1)


def _write_page(results: Path) -> None:
    write_text(results / PAGE, make_page(results))
    msg.good(f"Wrote {results / PAGE}")


if __name__ == "__main__":
    app()
