"""What weights of a few bits cost, and how small they are.

    python -m benchmarks.quantized

`assets/modernbert-mini` (or `--model FOLDER`) is converted as by `modernbert convert`,
and compared as there: by the hidden states of some text, and of random wordpieces.
Prints a table and writes it as JSON.
"""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict

import typer
from wasabi import msg

from spacy_modernbert.cli.convert import (
    compare_checkpoints,
    convert_checkpoint,
    find_size,
)
from spacy_modernbert.encoder.checkpoint import load_config
from spacy_modernbert.encoder.quantize import Scheme

from .figures import output_option, write_figures

GROUP_SIZE = 64


def main(
    model: Path = typer.Option(  # noqa: B008
        Path("assets/modernbert-mini"),
        help="Folder of a checkpoint",
        exists=True,
        file_okay=False,
    ),
    output: Path = output_option("quantized.json"),  # noqa: B008
) -> None:
    """Measure 8 and 4 bits, print a table and write the results."""
    rows = [measure(model, Scheme(bits, GROUP_SIZE)) for bits in (8, 4)]
    write_figures(output, f"python -m benchmarks.quantized --model {model}", rows=rows)
    names = list(rows[0])
    msg.table([[f"{row[name]:.5g}" for name in names] for row in rows], header=names)
    msg.good(f"Wrote {output}")


def measure(model: Path, scheme: Scheme) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): The size as a share of that in float32, and how far
    the hidden states agree.
    """
    config = load_config(model)
    with TemporaryDirectory() as folder:
        floats, quantized = Path(folder) / "floats", Path(folder) / "quantized"
        floats.mkdir()
        quantized.mkdir()
        convert_checkpoint(model, config, floats, None)
        convert_checkpoint(model, config, quantized, scheme)
        return {
            **asdict(scheme),
            "size": find_size(quantized) / find_size(floats),
            **asdict(compare_checkpoints(floats, quantized, config)),
        }


if __name__ == "__main__":
    typer.run(main)
