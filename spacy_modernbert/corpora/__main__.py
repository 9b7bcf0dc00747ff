"""`python -m spacy_modernbert.corpora`: a command for each corpus."""

from pathlib import Path
from typing import Callable

import typer
from wasabi import msg

from .convert import ConvertedCorpus
from .craft import convert_craft
from .litbank import convert_litbank

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

SOURCE = typer.Argument(
    ..., help="Folder of a git checkout, or a tar archive of one", show_default=False
)
OUTPUT = typer.Argument(
    ..., help="Folder for train.spacy, dev.spacy and test.spacy", show_default=False
)


@app.command()
def litbank(source: Path = SOURCE, output: Path = OUTPUT) -> None:
    """Convert LitBank: literary entities in brat's standoff format."""
    _convert(convert_litbank, source, output)


@app.command()
def craft(source: Path = SOURCE, output: Path = OUTPUT) -> None:
    """Convert CRAFT: biomedical concepts in Knowtator's XML."""
    _convert(convert_craft, source, output)


def _convert(
    converter: Callable[[Path], ConvertedCorpus], source: Path, output: Path
) -> None:
    try:
        corpus = converter(source)
        corpus.write(output)
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    header, rows = corpus.report.table()
    msg.table(rows, header=header, divider=True, aligns=["l"] + ["r"] * len(header[1:]))
    msg.good(f"Wrote {', '.join(corpus.splits)} to {output}")


if __name__ == "__main__":
    app(prog_name="python -m spacy_modernbert.corpora")
