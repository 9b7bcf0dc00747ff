"""`python -m spacy modernbert embed`: a vector for each text of a file."""

import hashlib
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Deque, Dict, Iterator, Optional

import typer
from spacy.cli._util import import_code
from tqdm import tqdm
from wasabi import msg

from ..atomic import check_outputs
from ..errors import Errors
from ..text_files import TextSource
from .locks import locked
from .vector_files import PartialFile, check_output, lock_of, partial_folder

if TYPE_CHECKING:
    from ..embeddings import Embedder

_INTERRUPTED = 130


def embed(
    input: str = typer.Argument(
        ..., help="Text file (one text per line), JSONL, or - for standard input"
    ),
    output: Path = typer.Argument(  # noqa: B008
        ..., help="File to write: .npy, .jsonl or .parquet"
    ),
    model: str = typer.Option(
        "answerdotai/ModernBERT-base",
        "--model",
        "-m",
        help="Checkpoint (a folder or a Hugging Face hub id) or saved pipeline",
    ),
    revision: Optional[str] = typer.Option(
        None, help="Commit, tag or branch on the hub"
    ),
    text_key: Optional[str] = typer.Option(
        None, help="Key of the text ['text']; if given, any input is read as JSONL"
    ),
    pooling: str = typer.Option(
        "auto", help="auto (as the checkpoint says), cls or mean"
    ),
    normalize: bool = typer.Option(
        False, "--normalize", help="Scale every vector to length 1"
    ),
    backend: Optional[str] = typer.Option(
        None, help="Where to run: see `modernbert info` [as the pipeline says, or auto]"
    ),
    precision: Optional[str] = typer.Option(
        None,
        help="auto, float32, bfloat16 or float16 [as the pipeline says, or auto]",
    ),
    max_batch_wordpieces: Optional[int] = typer.Option(
        None,
        min=1,
        help="Maximum wordpieces per pass [as the pipeline says, or 16384]",
    ),
    window: Optional[int] = typer.Option(
        None,
        help="Wordpieces per window [as the pipeline says, or 8192; at most what the "
        "encoder takes and a pass holds]",
    ),
    overlap: Optional[int] = typer.Option(
        None,
        help="Wordpieces that consecutive windows of a text share [as the pipeline "
        "says, or 512]",
    ),
    force: bool = typer.Option(
        False,
        "--force",
        "-F",
        help="Replace OUTPUT, or what was begun of it with other arguments",
    ),
    code: Optional[Path] = typer.Option(  # noqa: B008
        None, "--code", "-c", help="Python file with registered functions to import"
    ),
) -> None:
    """Make a vector for each text, in order, for texts of any length, on any backend.

    Finished vectors are kept in OUTPUT.partial. After an interruption, rerun the
    command with the same arguments to continue from there.
    """
    # Not a Path, as "-" is none: `expanding` leaves it alone.
    input = os.path.expanduser(input)
    try:
        source = TextSource.of(input, text_key)
        check_output(output, text_key=source.key, force=force)
        check_outputs([output], [Path(input) if source.is_file else None, code])
        import_code(code)
        begun = partial_folder(output)
        if source.is_file and begun in Path(input).resolve().parents:
            # What is in it is removed in the end.
            raise ValueError(Errors.OUTPUT_ONTO_INPUT.format(path=begun))
        # Errors of the input come up now, and not after hours.
        n_texts = sum(1 for _ in source.read()) if source.is_file else None
        if n_texts == 0:
            raise ValueError(Errors.EMBED_EMPTY.format(place=input))

        from ..embeddings import load_embedder

        embedder = load_embedder(
            model,
            revision=revision,
            backend=backend,
            precision=precision,
            pooling=pooling,
            window=window,
            overlap=overlap,
            max_batch_wordpieces=max_batch_wordpieces,
        )
        arguments = {
            "input": str(Path(input).resolve()) if source.is_file else input,
            "text_key": source.key,
            "model": model,
            "revision": revision,
            "normalize": normalize,
            **describe(embedder),
        }
        with locked(lock_of(output), output):
            # Another process may have finished it in the meantime.
            check_output(output, text_key=source.key, force=force)
            partial = PartialFile(output, embedder.width, arguments)
            partial.resume(force=force)
            embed_source(source, embedder, partial, n_texts, normalize=normalize)
            if not partial.n_texts:
                partial.discard()
                raise ValueError(Errors.EMBED_EMPTY.format(place=input))
            partial.finish()
    except KeyboardInterrupt:
        folder = partial_folder(output)
        if folder.exists():
            msg.warn(
                f"Interrupted. Finished vectors are in {folder}: rerun the command "
                "with the same arguments to continue."
            )
        raise typer.Exit(_INTERRUPTED) from None
    except (ImportError, MemoryError, OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    msg.good(
        f"{output}: {partial.n_texts:,} vectors of width {partial.width}, by "
        f"{embedder.pooling} pooling on {embedder.encoder.device}"
    )


def embed_source(
    source: TextSource,
    embedder: "Embedder",
    partial: PartialFile,
    n_texts: Optional[int],
    *,
    normalize: bool,
) -> None:
    """Make the vectors that are still to be made.

    source (TextSource): The texts.
    embedder (Embedder): Makes the vectors.
    partial (PartialFile): Where they go. What it has already is passed by.
    n_texts (Optional[int]): How many texts there are, if that is known.
    normalize (bool): Whether to give vectors the length 1.
    """
    records = source.read()
    partial.skip(map(source.text_of, records))
    waiting: Deque[Dict[str, Any]] = deque()

    def read() -> Iterator[str]:
        for record in records:
            waiting.append(record)
            yield source.text_of(record)

    n_wordpieces = 0
    began = time.perf_counter()
    with tqdm(
        total=n_texts, initial=partial.n_texts, unit=" texts", disable=None
    ) as bar:
        for part in embedder.stream(read(), normalize=normalize):
            finished = [waiting.popleft() for _ in part.vectors]
            done = [source.text_of(record) for record in finished]
            partial.add(part.vectors, done, finished)
            n_wordpieces += part.n_wordpieces
            rate = n_wordpieces / (time.perf_counter() - began)
            bar.set_postfix_str(f"{rate:,.0f} wordpieces/s", refresh=False)
            bar.update(len(finished))


def describe(embedder: "Embedder") -> Dict[str, Any]:
    """What vectors depend on that an embedder chose by itself. "auto" may choose
    another backend when a command is started again: on another machine, or after
    something was installed.

    embedder (Embedder): The embedder.
    RETURNS (Dict[str, Any]): JSON-serializable.
    """
    return {
        "weights": fingerprint(embedder),
        "backend": embedder.backend,
        "precision": embedder.precision,
        "quantization": embedder.quantization,
        "pooling": embedder.pooling,
        "window": embedder.get_spans.window,
        "overlap": embedder.get_spans.overlap,
    }


def fingerprint(embedder: "Embedder") -> str:
    """A digest that tells encoders apart. It covers the config, the tokenizer and some
    of the weights: norms, which any training changes, and a matrix, since the norms of
    all fresh encoders are the same.

    embedder (Embedder): Has the encoder.
    RETURNS (str): Hexadecimal digits.
    """
    digest = hashlib.sha256()
    config = embedder.encoder.config
    digest.update(json.dumps(config.to_dict(), sort_keys=True).encode())
    digest.update(embedder.tokenizer.to_json().encode())
    tensors = embedder.encoder.tensors()
    matrix = f"layers.{config.num_hidden_layers - 1}.mlp.Wo.weight"
    for name in ("embeddings.norm.weight", "final_norm.weight", matrix):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()[:16]
