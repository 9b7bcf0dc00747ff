"""Files and folders that appear whole or not at all."""

import errno
import os
import re
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import (
    BinaryIO,
    Callable,
    Iterable,
    Iterator,
    List,
    Optional,
    Pattern,
    Union,
)

from .errors import Errors

_IS_WINDOWS = os.name == "nt"

# What file managers leave in every folder that is opened in them, and what the root of
# a volume has.
_NOBODYS = re.compile(
    r"\.DS_Store|\._.*|\.directory|Thumbs\.db|desktop\.ini|lost\+found"
)

# The names of a new file or folder (`tmp`), and of the old folder (`old`), while they
# are being swapped. A killed process leaves them behind.
_PASSING = r"\.{name}\.[0-9a-f]{{8}}\.(tmp|old)"
# One that nothing has written to for this long is not in use any more.
_STALE_SECONDS = 3600

# The modes of what is to replace something, until it gets those of the old one.
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700

# The errors of what cannot be renamed in place: a mount point, or a folder from a lower
# layer of a container.
_NOT_TO_BE_RENAMED = (errno.EBUSY, errno.EXDEV)

# The seconds to wait, time after time, for others to close what is to be renamed on
# Windows: 9.1 in all.
_WAITS = tuple(n / 10 for n in range(1, 14))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its place, and rename it when it is complete and on the disk.
    If that fails, what was there before is left as it was. A file that cannot be
    replaced, as one that is mounted by itself, is overwritten when the new one is
    complete.

    path (Path): The file; a link stays a link. Its folder is made if it does not
        exist. What exists but is not a regular file, such as `/dev/stdout`, is written
        to directly.
    YIELDS (Path): Where to write, within the block.
    """
    if _is_no_file(path):
        yield path
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(_fresh_name(path.name))
    try:
        if path.exists():
            fresh.touch(mode=_PRIVATE_FILE)  # as the old one may be
        yield fresh
        sync_file(fresh)
        move_file(fresh, path)
        _sweep(path.parent, path.name)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def replacing_folder(
    folder: Path, own_files: Pattern[str], then: Optional[Callable[[], None]] = None
) -> Iterator[Path]:
    """Fill a folder beside its place, and let it replace the old one when it is whole.
    It gets the modes of the old one and of its files. If it fails, the old one is still
    there. Where a folder cannot be renamed, as a mount point cannot, or must stay, as
    the current one, its files are replaced one after the other.

    folder (Path): The folder; a link stays a link. The one around it is made if it does
        not exist.
    own_files (Pattern[str]): The names that the old one may hold, beside what file
        managers leave everywhere.
    then (Optional[Callable[[], None]]): What is to be done as soon as the new one is in
        its place, before the old one is removed, which may take its time.
    YIELDS (Path): The folder to fill, within the block.
    RAISES (ValueError): If the old one holds other files, or is a file.
    """
    folder = folder.resolve()
    _check_contents(folder, own_files)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = _around(folder) / _fresh_name(folder.name)
    if folder.exists():
        make_private_folder(fresh)
    else:
        fresh.mkdir()
    try:
        yield fresh
        _keep_modes(folder, fresh)
        old = _put_folder_in_place(fresh, folder)
        if then is not None:
            then()
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        # Only now: what a killed process left may have been the only copy.
        _sweep(fresh.parent, folder.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make a folder to write to, within the folder that what is written is for: see
    `move_files`. It is removed in the end.

    folder (Path): Where its files will be. It is made if it does not exist.
    YIELDS (Path): The folder to write to, which is the user's alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / _fresh_name(folder.name)
    make_private_folder(fresh)
    try:
        yield fresh
        _sweep(folder, folder.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def move_files(source: Path, target: Path) -> None:
    """Put each file of a folder, and of those in it, in its place in another one. What
    else is there stays.

    source (Path): The folder, on the same disk.
    target (Path): The folder that the files are for.
    """
    for path in _files(source):
        place = (target / path.relative_to(source)).resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        move_file(path, place)


def check_writable(path: Path) -> None:
    """Check that a file can be written, before doing the work whose result it holds.

    path (Path): The file. Its folder is made if it does not exist.
    RAISES (OSError): If it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_no_file(path):
        _check_access(path, path)
        return
    path = path.resolve()  # as `replacing` writes it
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_access(path.parent, path)


def check_outputs(
    outputs: Iterable[Optional[Path]],
    inputs: Iterable[Optional[Path]],
    pipelines: Iterable[Path] = (),
) -> None:
    """Check, before doing the work that they will hold, that files can be written and
    would replace neither an input nor each other.

    outputs, inputs (Iterable[Optional[Path]]): The files to write, and those to read;
        None for one that was not asked for.
    pipelines (Iterable[Path]): The folders of pipelines to read. A file may be new in
        them, but what they hold is not replaced.
    RAISES (ValueError): If one would be replaced.
    RAISES (OSError): As for `check_writable`.
    """
    pipelines = list(pipelines)
    taken = [path for path in inputs if path is not None]
    for path in outputs:
        if path is None:
            continue
        check_writable(path)
        if not path.is_char_device() and any(same_place(path, each) for each in taken):
            raise ValueError(Errors.OUTPUT_ONTO_INPUT.format(path=path))
        for folder in pipelines:
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    Errors.OUTPUT_IN_PIPELINE.format(path=path, folder=folder)
                )
        taken.append(path)


def same_place(one: Path, other: Path) -> bool:
    """RETURNS (bool): Whether two paths lead to the same file or folder, or would.
    `Path.resolve` alone takes `Model` and `model` for two on a disk that does not.
    """
    if one.resolve() == other.resolve():
        return True
    with suppress(OSError):  # of what does not exist
        return one.samefile(other)
    return False


def check_replaceable(folder: Path, own_files: Pattern[str]) -> None:
    """Check that a folder can be replaced, before doing the work that it will hold.

    folder (Path): The folder. The one around it is made if it does not exist.
    own_files (Pattern[str]): The names that it may hold: see `replacing_folder`.
    RAISES (ValueError): If it holds other files, or is a file.
    RAISES (OSError): If it cannot be written.
    """
    folder = folder.resolve()  # as `replacing_folder` writes it
    _check_contents(folder, own_files)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_access(_around(folder), folder)


def make_private_folder(folder: Path) -> None:
    """Make a folder that is its owner's alone, where there are modes that can be
    changed later. Windows has access lists instead: one for the owner alone would stay
    with what is moved out of the folder, and with the folder when it is renamed.

    folder (Path): The folder.
    RAISES (FileExistsError): If it exists.
    """
    folder.mkdir(mode=0o777 if _IS_WINDOWS else _PRIVATE_FOLDER)


def make_private(folder: Path) -> None:
    """Make a folder of the user's private that is there already, as far as
    `make_private_folder` would.

    folder (Path): The folder.
    """
    if not _IS_WINDOWS:
        folder.chmod(_PRIVATE_FOLDER)


def move_file(source: Path, target: Path) -> None:
    """Put a file that is complete in the place of another, whose mode it gets.

    source (Path): The file, which may stay where it is.
    target (Path): Its place, on the same disk. A file that cannot be replaced, as one
        that is mounted by itself, is overwritten.
    """
    _keep_mode(target, source)
    if not _could_rename(source, target):
        _copy(source, target)


def sync(stream: BinaryIO) -> None:
    """Force a file to the disk before it is renamed: else a crash may leave it empty.

    stream (BinaryIO): The file, open to write.
    """
    stream.flush()
    os.fsync(stream.fileno())


def sync_file(path: Path) -> None:
    """Force a file that was written to the disk.

    path (Path): The file.
    """
    with open(path, "r+b") as stream:
        sync(stream)


def sync_files(folder: Path) -> None:
    """Force all files of a folder, and of those in it, to the disk.

    folder (Path): The folder.
    """
    for path in _files(folder):
        sync_file(path)


def write_file(path: Path, data: bytes) -> None:
    """Write a file, so that it is on the disk when this returns.

    path (Path): The file.
    data (bytes): What to write.
    """
    with open(path, "wb") as stream:
        stream.write(data)
        sync(stream)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    path (Path): The file. Its folder is made if it does not exist.
    text (str): What to write.
    """
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf8")


def _files(folder: Path) -> List[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _is_no_file(path: Path) -> bool:
    """RETURNS (bool): Whether something is there that is not a regular file. The path
    must not be resolved first: that of a pipe, `/dev/fd/3`, resolves to no real path.
    """
    return path.exists() and not path.is_file()


def _check_access(writes_to: Path, path: Path) -> None:
    if not _is_writable(writes_to, path.name):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _is_writable(path: Path, name: str) -> bool:
    """RETURNS (bool): Whether one may write to a file, or into a folder what replaces
    `name` there. `os.access` says so of every folder on Windows, where it is tried.
    """
    if not (_IS_WINDOWS and path.is_dir()):
        return os.access(path, os.W_OK)
    probe = path / _fresh_name(name)
    try:
        probe.touch(exist_ok=False)
    except PermissionError:
        return False
    with suppress(OSError):  # as when a virus scanner looks at it: see `_sweep`
        probe.unlink()
    return True


def _check_contents(folder: Path, own_files: Pattern[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(Errors.SAVE_IS_FILE.format(path=folder))
    passing = _passing(folder.name)
    names = sorted(path.name for path in folder.iterdir())
    foreign = [
        name
        for name in names
        if not any(each.fullmatch(name) for each in (own_files, _NOBODYS, passing))
    ]
    if foreign:
        raise ValueError(
            Errors.SAVE_FOREIGN_FILES.format(
                folder=folder, files=", ".join(foreign[:5])
            )
        )


def _fresh_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(4)}.tmp"


def _passing(name: str) -> Pattern[str]:
    return re.compile(_PASSING.format(name=re.escape(name)))


def _around(folder: Path) -> Path:
    """RETURNS (Path): Where to fill the replacement of a folder: beside it. Or inside
    it: of a mount point, since what is beside that is on another disk; of the current
    folder, or one around it, which the process and the user's shell would lose; and
    where nothing can be written beside it.
    """
    if not folder.exists():
        return folder.parent
    is_kept = (
        os.path.ismount(folder)
        or _is_current(folder)
        or not _is_writable(folder.parent, folder.name)
    )
    return folder if is_kept else folder.parent


def _is_current(folder: Path) -> bool:
    """RETURNS (bool): Whether it is the current folder, or one around it."""
    try:
        return Path.cwd().resolve().is_relative_to(folder)
    except OSError:  # the current folder is gone
        return False


def _sweep(around: Path, name: str) -> None:
    """Remove what killed processes left behind when replacing a file or folder."""
    passing = _passing(name)
    with suppress(OSError):  # of a folder that one may write to and not read
        for path in around.iterdir():
            if passing.fullmatch(path.name) and _is_stale(path):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_stale(path: Path) -> bool:
    within = path.iterdir() if path.is_dir() else ()
    stats = [each.stat() for each in (path, *within)]
    # The change time is there because renaming leaves the modification time as it was.
    last = max(max(each.st_mtime, each.st_ctime) for each in stats)
    return time.time() - last > _STALE_SECONDS


def _could_rename(source: Path, target: Path) -> bool:
    """RETURNS (bool): Whether it was renamed; False if that is not possible there."""
    try:
        _rename(os.replace, source, target)
    except OSError as error:
        if error.errno not in _NOT_TO_BE_RENAMED:
            raise
        return False
    return True


def _rename(rename: Callable[[Path, Path], None], source: Path, target: Path) -> None:
    """Rename by `os.rename` or `os.replace`. Windows refuses it while anybody has the
    file open, or one in the folder, as virus scanners do with what was just written:
    there, wait for them.
    """
    for seconds in _WAITS if _IS_WINDOWS else ():
        try:
            rename(source, target)
            return
        except PermissionError:
            time.sleep(seconds)
    rename(source, target)


def _keep_mode(old: Path, fresh: Path) -> None:
    """Let those who may read or write what is replaced, and nobody else, do so with
    what takes its place.
    """
    if old.exists():
        shutil.copymode(old, fresh)


def _keep_modes(old: Path, fresh: Path) -> None:
    """The same with a folder and all that is in it."""
    for path in (fresh, *fresh.rglob("*")):
        _keep_mode(old / path.relative_to(fresh), path)


def _copy(source: Union[str, Path], target: Union[str, Path]) -> None:
    with open(source, "rb") as read, open(target, "wb") as written:
        shutil.copyfileobj(read, written)
        sync(written)


def _put_folder_in_place(fresh: Path, folder: Path) -> Optional[Path]:
    """RETURNS (Optional[Path]): Where the old folder is now, which is to be removed;
    None if there is none.
    """
    if not folder.exists():
        _rename(os.rename, fresh, folder)
        return None
    if fresh.parent == folder:
        _put_contents_in_place(fresh, folder)
        return None
    old = fresh.with_suffix(".old")
    if not _could_rename(folder, old):
        _copy_in_place(fresh, folder)
        return None
    try:
        _rename(os.rename, fresh, folder)
    except BaseException:
        # Unless another process has put its own there meanwhile.
        if not folder.exists():
            with suppress(OSError):
                _rename(os.rename, old, folder)
        raise
    return old


def _copy_in_place(fresh: Path, folder: Path) -> None:
    """Copy the new folder into the old one, and put its files in place from there."""
    within = folder / fresh.name
    try:
        shutil.copytree(fresh, within, copy_function=_copy)
        _keep_modes(fresh, within)
        _put_contents_in_place(within, folder)
    finally:
        shutil.rmtree(within, ignore_errors=True)


def _put_contents_in_place(fresh: Path, folder: Path) -> None:
    """Move files up from a subfolder one by one; then remove those not replaced."""
    contents = list(fresh.iterdir())
    names = {path.name for path in contents}
    for path in contents:
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        _rename(os.replace, path, folder / path.name)
    spared = (_NOBODYS, _passing(folder.name))
    for path in folder.iterdir():
        if path.name in names or any(each.fullmatch(path.name) for each in spared):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
