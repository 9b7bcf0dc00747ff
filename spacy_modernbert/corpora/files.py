"""The files of a corpus, from a folder or from a packed archive."""

import lzma
import tarfile
import zlib
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Dict, Mapping, Sequence

from ..errors import Errors

# What a member of an archive may have: far more than any file of these corpora, and
# far less than what a small archive can be made to unpack to.
_MAX_BYTES = 64 * 2**20


def load_files(source: Path, patterns: Sequence[str]) -> Dict[str, bytes]:
    """Read the files of a corpus that a converter needs.

    An archive is read in memory, member by member, and never unpacked: a
    member with a hostile name, a link or a device cannot touch the disk.

    source (Path): The folder of a git checkout, or a tar archive of one
        (`.tar`, `.tar.gz`, `.tar.xz` ...). The corpus may also lie one folder
        deeper, as in the archives that git hosts make.
    patterns (Sequence[str]): Paths below the corpus, with `*` for any name
        within one folder: `"entities/brat/*.ann"`.
    RETURNS (Dict[str, bytes]): Contents by path below the corpus, with `/`.
    RAISES (FileNotFoundError): If there is nothing at `source`, or if no file
        matches one of the patterns.
    RAISES (ValueError): If `source` is a file but no readable tar archive, if a member
        of it is too large, or if a file of a folder is a link out of it.
    """
    if not source.exists():
        raise FileNotFoundError(Errors.CORPUS_SOURCE_MISSING.format(source=source))
    files = (
        _from_folder(source, patterns)
        if source.is_dir()
        else _from_archive(source, patterns)
    )
    for pattern in patterns:
        if not any(_matches(PurePosixPath(path).parts, pattern) for path in files):
            raise FileNotFoundError(
                Errors.CORPUS_FILES_MISSING.format(source=source, pattern=pattern)
            )
    return files


def content(files: Mapping[str, bytes], path: str) -> bytes:
    """One file of those that `load_files` read.

    files (Mapping[str, bytes]): What it read.
    path (str): Which of them.
    RETURNS (bytes): Its contents.
    RAISES (FileNotFoundError): If it is not among them.
    """
    if path not in files:
        raise FileNotFoundError(Errors.CORPUS_FILE_MISSING.format(path=path))
    return files[path]


def decode(files: Mapping[str, bytes], path: str) -> str:
    """The text of one file, character by character: line ends are not translated,
    because annotations count characters.

    files (Mapping[str, bytes]): What `load_files` read.
    path (str): Which of them.
    RETURNS (str): Its text.
    RAISES (FileNotFoundError): If the file is missing.
    RAISES (ValueError): If it is not UTF-8.
    """
    try:
        return content(files, path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            Errors.CORPUS_NOT_UTF8.format(path=path, error=error)
        ) from error


def _from_folder(source: Path, patterns: Sequence[str]) -> Dict[str, bytes]:
    for root in (source, *sorted(path for path in source.iterdir() if path.is_dir())):
        found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
        if found:
            return {
                path.relative_to(root).as_posix(): path.read_bytes()
                for path in found
                if _is_file_within(path, source)
            }
    return {}


def _is_file_within(path: Path, source: Path) -> bool:
    """RETURNS (bool): Whether it is a regular file: a pipe or a device may have no end.
    RAISES (ValueError): If it leads out of the folder: what is there may be private,
        and would become part of the corpus.
    """
    target = path.resolve()
    if not target.is_relative_to(source.resolve()):
        raise ValueError(
            Errors.CORPUS_FILE_OUTSIDE.format(path=path, target=target, source=source)
        )
    return target.is_file()


def _from_archive(source: Path, patterns: Sequence[str]) -> Dict[str, bytes]:
    found: Dict[str, Dict[str, bytes]] = {}  # by the folder that the corpus lies in
    try:
        with tarfile.open(source, mode="r:*") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                for root, below in (("", parts), ("".join(parts[:1]), parts[1:])):
                    # Files only: a link might lead anywhere.
                    if member.isfile() and _is_wanted(below, patterns):
                        _check_size(member, source)
                        stream = archive.extractfile(member)
                        assert stream is not None  # as it is a file
                        found.setdefault(root, {})["/".join(below)] = stream.read()
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(
            Errors.CORPUS_BAD_ARCHIVE.format(source=source, error=error)
        ) from error
    return found[min(found)] if found else {}


def _check_size(member: tarfile.TarInfo, source: Path) -> None:
    if member.size > _MAX_BYTES:
        raise ValueError(
            Errors.CORPUS_MEMBER_TOO_LARGE.format(
                source=source, name=member.name, size=member.size, limit=_MAX_BYTES
            )
        )


def _is_wanted(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(_matches(parts, pattern) for pattern in patterns)


def _matches(parts: Sequence[str], pattern: str) -> bool:
    wanted = PurePosixPath(pattern).parts
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
