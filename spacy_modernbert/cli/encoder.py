"""`python -m spacy modernbert encoder`: a checkpoint to start training from."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Iterator, List, Optional

import spacy
import typer
from spacy.tokens import DocBin
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from wasabi import msg

from ..encoder.checkpoint import load_config, resolve, save_checkpoint
from ..encoder.config import ModernBertConfig
from ..encoder.weights import expected_shapes, init_tensors, with_matching_keys
from ..errors import Errors

# The order of their ids, from 0. The names are those of the published tokenizer.
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")

# A tokenizer is learned from so many characters at most: more change little.
_MAX_CHARACTERS = 10_000_000

# The rows of the embedding table are a multiple of this, as in published checkpoints:
# matrix products like it.
_VOCAB_MULTIPLE = 64


def encoder(
    name: str = typer.Argument(
        ...,
        help="Size of a fresh encoder (a file of --configs, without .json), or a "
        "checkpoint to copy: a folder or a Hugging Face hub id",
        show_default=False,
    ),
    output: Path = typer.Argument(  # noqa: B008
        ..., help="Folder for the checkpoint", show_default=False
    ),
    corpus: Optional[Path] = typer.Option(  # noqa: B008
        None, help="A .spacy file for a fresh encoder to learn its tokenizer from"
    ),
    configs: Path = typer.Option(  # noqa: B008
        Path("configs/encoders"), help="Folder with the sizes of fresh encoders"
    ),
    revision: Optional[str] = typer.Option(
        None, help="Commit, tag or branch on the hub"
    ),
    seed: int = typer.Option(0, help="Seed of the weights of a fresh encoder"),
) -> None:
    """Put a checkpoint in place to start training from: a fresh one of a given size,
    or a copy of one on the disk or on the Hugging Face hub.
    """
    config_path = configs / f"{name}.json"
    try:
        if config_path.is_file():
            make_encoder_folder(config_path, output, corpus, seed)
        else:
            copy_checkpoint(name, revision, output)
        config = load_config(output)
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    n_weights = sum(math.prod(shape) for shape in expected_shapes(config).values())
    msg.good(
        f"{output}: {config.num_hidden_layers} layers, {config.hidden_size} wide, "
        f"{config.vocab_size} wordpieces, {n_weights:,} weights"
    )


def make_encoder_folder(
    config_path: Path, output: Path, corpus: Optional[Path], seed: int
) -> None:
    """Make a fresh checkpoint: a byte-level tokenizer that is learned from a corpus,
    and random weights.

    config_path (Path): A `config.json`. Its `vocab_size` is the most that the
        tokenizer may learn.
    output (Path): Folder for the checkpoint.
    corpus (Optional[Path]): A `.spacy` file with texts.
    seed (int): The same seed gives the same weights.
    RAISES (ValueError): If there is no corpus, or the config is none that can be used.
    """
    if corpus is None or not corpus.is_file():
        raise ValueError(Errors.NO_TOKENIZER_CORPUS.format(path=corpus))
    config = ModernBertConfig.from_dict(json.loads(config_path.read_text("utf8")))
    tokenizer = train_tokenizer(corpus, config.vocab_size)
    n_rows = -(-tokenizer.get_vocab_size() // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
    config = replace(config, vocab_size=n_rows)
    tensors = with_matching_keys(init_tensors(config, seed), config)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(output, config, tensors, tokenizer.to_str())


def train_tokenizer(corpus: Path, vocab_size: int) -> Tokenizer:
    """Learn a tokenizer that works as the published one of ModernBERT does: byte-level
    BPE on NFC text, `[CLS] … [SEP]`.

    corpus (Path): A `.spacy` file.
    vocab_size (int): The most wordpieces that it may know.
    RETURNS (Tokenizer): The tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_read_texts(corpus), trainer)
    template = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=list(template.items()),
    )
    return tokenizer


def copy_checkpoint(name: str, revision: Optional[str], output: Path) -> None:
    """Copy the files of a checkpoint. From the hub, they are downloaded.

    name (str): A folder, or a hub id.
    revision (Optional[str]): Commit, tag or branch on the hub.
    output (Path): Folder for the checkpoint; replaced if it is there.
    """
    source = resolve(name, revision)
    load_config(source)
    if output.exists() and source.resolve() == output.resolve():
        return
    files = [*source.glob("*.json"), *source.glob("*.safetensors")]
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        for file in files:
            shutil.copyfile(file, temporary / file.name)
        if output.exists():
            shutil.rmtree(output)
        os.replace(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_texts(corpus: Path) -> Iterator[str]:
    # From the whole corpus, evenly: its documents may be sorted by length.
    texts: List[str] = [
        doc.text for doc in DocBin().from_disk(corpus).get_docs(spacy.blank("en").vocab)
    ]
    step = max(1, -(-sum(map(len, texts)) // _MAX_CHARACTERS))
    yield from texts[::step]
