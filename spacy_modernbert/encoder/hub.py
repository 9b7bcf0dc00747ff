"""Where a checkpoint is: a folder, or an id on the Hugging Face hub.

The network is used only where the user names a hub id.
"""

import errno
import os
from pathlib import Path
from typing import List, Optional, Union

from ..errors import Errors
from .checkpoint import (
    CONFIG_FILE,
    INDEX,
    SPECIAL_TOKENS_FILE,
    TENSORS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    check_is_no_pipeline,
    load_config,
)
from .sentences import MODULES, POOLING_CONFIG

# All that is fetched from the hub.
_HUB_FILES = [
    CONFIG_FILE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_FILE,
    "model*.safetensors",
    INDEX,
    MODULES,
    POOLING_CONFIG,
]

# No weights from subfolders: the `*` of a pattern also matches slashes.
_NOT_FROM_HUB = ["*/*.safetensors"]

# Errors of the local disk that the hub's files are kept on, and not of the network.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)

_IS_WINDOWS = os.name == "nt"

# How hf_xet, whose errors have no number, calls the first of these, by the number that
# the system has for it.
_NO_SPACE, _NO_SPACE_ON_WINDOWS = "(os error 28)", "(os error 112)"


def resolve(name: Union[str, Path], revision: Optional[str] = None) -> Path:
    """Find a checkpoint, on the disk or else on the Hugging Face hub.

    name (Union[str, Path]): A folder, or the id of a repository on the hub. What
        exists as a folder is never looked up on the hub.
    revision (Optional[str]): Commit, tag or branch on the hub. Folders have none.
    RETURNS (Path): The folder.
    RAISES (ValueError): If it cannot be found or downloaded: no such folder, unknown on
        the hub, gated, or no network; or if there is a revision, and it is on the disk.
        The message says which.
    RAISES (OSError): If what is fetched from the hub cannot be written.
    """
    return _resolve(name, revision, _HUB_FILES)


def resolve_tokenizer(name: Union[str, Path]) -> Path:
    """Find a tokenizer, on the disk or else on the Hugging Face hub, from where no
    weights are fetched.

    name (Union[str, Path]): A `tokenizer.json`, a folder that holds one, or a hub id.
    RETURNS (Path): The file, or the folder that holds it.
    RAISES (ValueError, OSError): As for `resolve`; or if it is the folder of a
        pipeline.
    """
    path = Path(os.path.expanduser(name))
    if path.is_file():
        return path
    folder = _resolve(name, None, [CONFIG_FILE, TOKENIZER])
    if not (folder / TOKENIZER).is_file():
        check_is_no_pipeline(folder)
    return folder


def _resolve(name: Union[str, Path], revision: Optional[str], files: List[str]) -> Path:
    """RETURNS (Path): The folder, or one with some files of the hub."""
    folder = Path(os.path.expanduser(name))
    if revision is not None and folder.exists():
        raise ValueError(Errors.NO_REVISIONS.format(revision=revision, source=name))
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(
            Errors.CHECKPOINT_IS_FILE.format(name=name, parent=folder.parent)
        )
    if isinstance(name, Path) or _looks_like_path(name):
        raise ValueError(Errors.CHECKPOINT_NO_FOLDER.format(path=folder.absolute()))
    return _download(name, revision, files)


def _looks_like_path(name: str) -> bool:
    """A hub id is `name` or `owner/name`."""
    return (
        name.startswith((".", "~"))
        or name.endswith("/")
        or "\\" in name
        or name.count("/") > 1
        or Path(name).is_absolute()
    )


def _download(name: str, revision: Optional[str], files: List[str]) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    def fetch(patterns: List[str]) -> Path:
        folder = Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=_NOT_FROM_HUB,
            )
        )
        if not _is_whole(folder, patterns):
            # Without a network, it is what was fetched before, and that is incomplete.
            # Asking the hub directly raises the error that says why.
            huggingface_hub.model_info(name, revision=revision)
        return folder

    # The base classes come last: a gated repository is also one "not found", and
    # every one of them is an OSError.
    try:
        # First the config: no weights are fetched of what is not ModernBERT.
        load_config(fetch([CONFIG_FILE]))
        return fetch(files)
    except errors.HFValidationError as err:
        message = Errors.CHECKPOINT_NO_FOLDER.format(path=Path(name).absolute())
        raise ValueError(message) from err
    except errors.GatedRepoError as err:
        raise ValueError(Errors.HUB_GATED.format(name=name)) from err
    except errors.RepositoryNotFoundError as err:
        raise ValueError(Errors.HUB_UNKNOWN.format(name=name)) from err
    except errors.RevisionNotFoundError as err:
        message = Errors.HUB_NO_REVISION.format(name=name, revision=revision)
        raise ValueError(message) from err
    except Exception as err:
        no_space = _NO_SPACE_ON_WINDOWS if _IS_WINDOWS else _NO_SPACE
        if no_space in str(err):  # of a disk, whatever the error is
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from err
        if not _is_of_network(err):
            raise
        error = f"{type(err).__name__}: {err}"
        message = Errors.HUB_UNREACHABLE.format(name=name, error=error)
        raise ValueError(message) from err


def _is_whole(folder: Path, files: List[str]) -> bool:
    """RETURNS (bool): Whether the files that every checkpoint needs are there."""
    needed = [[name] for name in (CONFIG_FILE, TOKENIZER) if name in files]
    if INDEX in files:
        needed.append([TENSORS, INDEX])
    return all(any((folder / name).is_file() for name in names) for names in needed)


def _is_of_network(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno not in _OF_THE_DISK
    if isinstance(error, RuntimeError):  # of hf_xet, which transfers large files
        return True
    # The hub's library lets errors of httpx through from its version 1 on.
    return type(error).__module__.partition(".")[0] == "httpx"
