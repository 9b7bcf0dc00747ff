"""`python -m spacy modernbert …`: spaCy imports this with its own commands."""

import typer
from spacy.cli._util import app as spacy_app

from ..console import replace_unknown_characters
from ..paths import expanding
from .convert import convert
from .embed import embed
from .encoder import encoder
from .evaluate import evaluate
from .export_onnx import export_onnx
from .info import info
from .lengths import lengths
from .pretrain import pretrain

app = typer.Typer(name="modernbert", help="ModernBERT for spaCy", no_args_is_help=True)
app.command("convert")(expanding(convert))
app.command("encoder")(expanding(encoder))
app.command("embed")(expanding(embed))
app.command("export-onnx")(expanding(export_onnx))
app.command("evaluate")(expanding(evaluate))
app.command("info")(info)
app.command("lengths")(expanding(lengths))
app.command(
    "pretrain",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(expanding(pretrain))


@app.callback()
def modernbert() -> None:
    """ModernBERT for spaCy."""
    replace_unknown_characters()


spacy_app.add_typer(app)
