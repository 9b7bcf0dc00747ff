"""`python -m spacy_modernbert.corpora`: a command for each corpus."""

import json
from pathlib import Path
from typing import Callable, Mapping

import typer
from wasabi import msg

from ..atomic import write_text
from ..console import replace_unknown_characters
from ..paths import expanding
from .convert import ConvertedCorpus
from .craft import convert_craft
from .litbank import convert_litbank
from .pretraining import gather_raw_texts
from .roster import LONG, SHORT, TINY, make_roster

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

REPORT = "report.json"

OUTPUT = typer.Argument(
    ..., help=f"Folder for train, dev and test.spacy, and {REPORT}", show_default=False
)
SOURCE = {
    corpus: typer.Option(
        Path(f"assets/{corpus}.tar.gz"),
        help="Folder of a git checkout, or a tar archive of one",
    )
    for corpus in ("litbank", "craft")
}
SEED = typer.Option(0, min=0, help="The same seed gives the same corpus")


@app.callback()
def corpora() -> None:
    """A command for each corpus."""
    replace_unknown_characters()


@app.command()
@expanding
def litbank(output: Path = OUTPUT, source: Path = SOURCE["litbank"]) -> None:
    """Convert LitBank: literary entities in brat's standoff format."""
    _write(lambda: convert_litbank(source), output)


@app.command()
@expanding
def craft(output: Path = OUTPUT, source: Path = SOURCE["craft"]) -> None:
    """Convert CRAFT: biomedical concepts in Knowtator's XML."""
    _write(lambda: convert_craft(source), output)


@app.command()
@expanding
def pretraining(
    output: Path = typer.Argument(  # noqa: B008
        ..., help="Folder for train.jsonl and dev.jsonl", show_default=False
    ),
    novels: Path = typer.Option(  # noqa: B008
        Path("assets/litbank.tar.gz"), help="LitBank, for the novels in `original`"
    ),
    passages: Path = typer.Option(  # noqa: B008
        Path("assets/litbank.tar.gz"), help="LitBank, for the passages it annotates"
    ),
    articles: Path = typer.Option(  # noqa: B008
        Path("assets/craft.tar.gz"), help="CRAFT, for its training articles"
    ),
) -> None:
    """Gather raw text to pretrain on, without what LitBank and CRAFT test on."""
    try:
        corpus = gather_raw_texts(novels, passages, articles)
        corpus.write(output)
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    for name, texts in (("train", corpus.train), ("dev", corpus.dev)):
        n_characters = sum(len(each.text) for each in texts)
        msg.text(f"{name}: {len(texts)} works, {n_characters:,} characters")
    _print_cuts(corpus.cuts)
    msg.good(f"Wrote train.jsonl and dev.jsonl to {output}")


@app.command()
@expanding
def roster(output: Path = OUTPUT, seed: int = SEED) -> None:
    """Generate the roster corpus, with documents of 300 to 2,000 words."""
    _write(lambda: make_roster(SHORT, seed), output)


@app.command()
@expanding
def roster_long(output: Path = OUTPUT, seed: int = SEED) -> None:
    """Generate the roster corpus, with documents of up to 8,192 wordpieces."""
    _write(lambda: make_roster(LONG, seed), output)


@app.command()
@expanding
def roster_tiny(output: Path = OUTPUT, seed: int = SEED) -> None:
    """Generate a roster corpus that is just large enough to try everything."""
    _write(lambda: make_roster(TINY, seed), output)


def _print_cuts(cuts: Mapping[str, int]) -> None:
    missing = [name for name, n_works in cuts.items() if not n_works]
    n_cut = len(cuts) - len(missing)
    msg.text(f"{n_cut} of {len(cuts)} annotated passages were cut out of their works.")
    if missing:
        # Right where the novels are not here; elsewhere, they would be learned.
        msg.warn(
            f"None of the works has the words of the passages of {', '.join(missing)}. "
            "If one of these novels is here, in other words or under another name, "
            "take it out: LitBank tests on it."
        )


def _write(make: Callable[[], ConvertedCorpus], output: Path) -> None:
    try:
        corpus = make()
        corpus.write(output)
        report = json.dumps(corpus.report.to_dict(), indent=1) + "\n"
        write_text(output / REPORT, report)
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    header, rows = corpus.report.table()
    msg.table(rows, header=header, divider=True, aligns=["l"] + ["r"] * len(header[1:]))
    msg.good(f"Wrote {', '.join(corpus.splits)} to {output}")


if __name__ == "__main__":
    app(prog_name="python -m spacy_modernbert.corpora")
