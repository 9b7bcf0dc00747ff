"""`python -m spacy modernbert …`: spaCy imports this with its own commands."""

import typer
from spacy.cli._util import app as spacy_app

from .convert import convert
from .encoder import encoder
from .info import info

app = typer.Typer(name="modernbert", help="ModernBERT for spaCy", no_args_is_help=True)
app.command("convert")(convert)
app.command("encoder")(encoder)
app.command("info")(info)


@app.callback()
def modernbert() -> None:
    """ModernBERT for spaCy."""


spacy_app.add_typer(app)
