"""`python -m spacy modernbert encoder`: a checkpoint to start training from."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Iterator, List, Optional

import numpy as np
import typer
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

from ..atomic import same_place
from ..encoder.checkpoint import (
    CONFIG_FILE,
    check_folder,
    load_config,
    open_tensors,
    read_json,
    read_tokenizer_config,
    save_checkpoint,
)
from ..encoder.config import SIZES_FOLDER, ModernBertConfig
from ..encoder.hub import resolve
from ..encoder.weights import (
    count_weights,
    init_tensors,
    with_matching_keys,
)
from ..errors import Errors
from ..pipelines import check_revision
from ..raw_texts import read_texts
from .tokenizer_files import read_fitting_tokenizer

# Their ids are their places here. The names are those of the published tokenizer.
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
SPECIAL_IDS = {
    "cls_token_id": SPECIAL_TOKENS.index("[CLS]"),
    "bos_token_id": SPECIAL_TOKENS.index("[CLS]"),
    "sep_token_id": SPECIAL_TOKENS.index("[SEP]"),
    "eos_token_id": SPECIAL_TOKENS.index("[SEP]"),
    "pad_token_id": SPECIAL_TOKENS.index("[PAD]"),
}

# A tokenizer is learned from about so many characters at most: more change little.
_MAX_CHARACTERS = 10_000_000
# Of those that are left out, so many characters at a time.
_PIECE = 10_000

# The rows of the embedding table are a multiple of this, as in published checkpoints:
# matrix products like it.
_VOCAB_MULTIPLE = 64


def encoder(
    name: str = typer.Argument(
        ...,
        help="Size of a fresh encoder (tiny, micro, mini, base, large), or a "
        "checkpoint to copy: a folder or a Hugging Face hub id",
        show_default=False,
    ),
    output: Path = typer.Argument(  # noqa: B008
        ..., help="Folder for the checkpoint", show_default=False
    ),
    corpus: Optional[Path] = typer.Option(  # noqa: B008
        None,
        help="A .spacy, .jsonl or .txt file, or a folder of .spacy files, for a fresh "
        "encoder to learn its tokenizer from",
    ),
    configs: Optional[Path] = typer.Option(  # noqa: B008
        None, help="Folder with other sizes: <size>.json, each like a config.json"
    ),
    revision: Optional[str] = typer.Option(
        None, help="Commit, tag or branch on the hub"
    ),
    seed: int = typer.Option(0, min=0, help="Seed of the weights of a fresh encoder"),
    force: bool = typer.Option(
        False, "--force", "-F", help="Replace a checkpoint in OUTPUT"
    ),
) -> None:
    """Put a checkpoint in place to start training from: a fresh one of a given size,
    or a copy of one on the disk or on the Hugging Face hub.
    """
    sizes = SIZES_FOLDER if configs is None else configs
    size = sizes / f"{name}.json"
    is_word, is_there = Path(name).name == name, Path(name).exists()
    is_size = is_word and size.is_file()
    is_both = is_size and Path(name).is_dir()
    # A single word is not taken for a hub id, which has an owner as well.
    is_copy = is_there or not is_word
    try:
        if is_both and same_place(Path(name), output):
            raise ValueError(Errors.SIZE_ONTO_FOLDER.format(name=name))
        if (output / CONFIG_FILE).exists() and not force:
            raise ValueError(Errors.CHECKPOINT_EXISTS.format(folder=output))
        check_revision(name if is_copy else str(size), revision)
        if is_copy:
            if is_both:
                msg.info(
                    f"'{name}' is a folder here, and is copied. For a fresh encoder of "
                    "that size, move the folder, or run the command in another one."
                )
            _say_what_is_not_used(corpus, configs, seed)
            copy_checkpoint(name, revision, output)
        elif is_size:
            make_checkpoint(size, output, corpus, seed)
        else:
            raise ValueError(_describe_sizes(name, sizes))
        config = load_config(output)
    except (OSError, ValueError) as error:
        msg.fail(str(error), exits=1)
    n_weights = count_weights(config)
    msg.good(
        f"{output}: {config.num_hidden_layers} layers, {config.hidden_size} wide, "
        f"a vocabulary of {config.vocab_size:,}, {n_weights:,} weights; reads up to "
        f"{config.max_wordpieces:,} wordpieces at once"
    )


def make_checkpoint(
    size: Path, output: Path, corpus: Optional[Path], seed: int
) -> None:
    """Make a fresh checkpoint: a byte-level tokenizer that is learned from a corpus,
    and random weights.

    size (Path): A `config.json`. Its `vocab_size` is the most that the tokenizer may
        learn. The ids of special wordpieces are those of the tokenizer, whatever it
        says.
    output (Path): Folder for the checkpoint. If it exists, it may only hold files of
        a checkpoint, and is replaced.
    corpus (Optional[Path]): A file with texts: see `read_texts`.
    seed (int): The same seed gives the same weights.
    RAISES (ValueError): If there is no corpus, the size cannot be used, or the folder
        holds other files.
    """
    if corpus is None or not corpus.exists():
        raise ValueError(Errors.NO_TOKENIZER_CORPUS.format(path=corpus))
    check_folder(output)
    data = read_json(size.parent, size.name)
    config = ModernBertConfig.from_dict({**data, **SPECIAL_IDS})
    texts = read_texts(corpus)
    if not texts:
        raise ValueError(Errors.NO_TEXT.format(path=corpus))
    tokenizer = train_tokenizer(_thin_out(texts), config.vocab_size)
    n_rows = -(-tokenizer.get_vocab_size() // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE
    config = replace(config, vocab_size=n_rows)
    tensors = with_matching_keys(init_tensors(config, seed), config)
    save_checkpoint(output, config, tensors, tokenizer.to_str())


def copy_checkpoint(name: str, revision: Optional[str], output: Path) -> None:
    """Copy a checkpoint: its encoder, in one file, and its tokenizer. Weights that are
    quantized stay so, and all others are float32. From the hub, it is downloaded. Heads
    are left out.

    name (str): A folder, or a hub id.
    revision (Optional[str]): Commit, tag or branch on the hub.
    output (Path): Folder for the checkpoint. If it exists, it may only hold files of
        a checkpoint, and is replaced; unless it is the one to copy.
    RAISES (ValueError): If the checkpoint cannot be found or downloaded, or is not
        sound, or the folder holds other files.
    """
    if not same_place(Path(os.path.expanduser(name)), output):
        check_folder(output)
    source = resolve(name, revision)
    config = load_config(source)
    tensors = open_tensors(source, config)
    tokenizer_json = read_fitting_tokenizer(source, config)
    if not same_place(source, output):
        tokenizer_config = read_tokenizer_config(source)
        save_checkpoint(output, config, tensors, tokenizer_json, tokenizer_config)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a tokenizer that works as the published one of ModernBERT does: byte-level
    BPE on NFC text, `[CLS] … [SEP]`.

    texts (Iterable[str]): What it is learned from.
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
    tokenizer.train_from_iterator(texts, trainer)
    template = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=list(template.items()),
    )
    return tokenizer


def _thin_out(texts: List[str]) -> Iterator[str]:
    """From the whole corpus, since its documents may be sorted by length; and by lot,
    since every other one may be in another language.
    """
    pieces = [(text, start) for text in texts for start in range(0, len(text), _PIECE)]
    share = min(1.0, _MAX_CHARACTERS / sum(map(len, texts)))
    n_drawn = max(1, int(share * len(pieces)))
    drawn = np.random.default_rng(0).choice(len(pieces), n_drawn, replace=False)
    for i in np.sort(drawn):
        text, start = pieces[i]
        yield text[start : start + _PIECE]


def _say_what_is_not_used(
    corpus: Optional[Path], configs: Optional[Path], seed: int
) -> None:
    given = {"--corpus": corpus, "--configs": configs, "--seed": seed}
    unused = [name for name, value in given.items() if value]
    if unused:
        names = ", ".join(unused)
        msg.info(f"A copy keeps its own tokenizer and weights. Not used: {names}")


def _describe_sizes(name: str, sizes: Path) -> str:
    known = ", ".join(sorted(path.stem for path in sizes.glob("*.json")))
    return Errors.UNKNOWN_SIZE.format(name=name, folder=sizes, sizes=known or "none")
