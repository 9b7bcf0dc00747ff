"""A lock, so that only one process at a time writes an output."""

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Iterator

from ..errors import Errors

_IS_WINDOWS = os.name == "nt"

# Where a file system has no locks. Windows has no number of its own for that.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
NO_LOCKS_ON_WINDOWS = (errno.EINVAL,)


@contextmanager
def locked(path: Path, output: Path) -> Iterator[None]:
    """Within this context, no other process writes the same output.

    path (Path): The file that is locked, and stays, except on Windows. Its folder is
        made.
    output (Path): What it is for. Messages name it.
    RAISES (ValueError): If another process is writing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not emptied: in a folder of others, it may be a link to something else.
    with open(path, "ab") as stream:
        try:
            _lock(stream)
        except (BlockingIOError, PermissionError) as error:
            raise ValueError(Errors.OUTPUT_LOCKED.format(output=output)) from error
        except OSError as error:
            # As on many clusters. Then there is no lock.
            if error.errno not in (NO_LOCKS_ON_WINDOWS if _IS_WINDOWS else NO_LOCKS):
                raise
        try:
            yield
        finally:
            if _IS_WINDOWS:
                _release(stream, path)


def _lock(stream: BinaryIO) -> None:
    """The system releases it when the process ends, however it ends."""
    if _IS_WINDOWS:
        _lock_byte(stream, "LK_NBLCK")
        return
    import fcntl

    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(stream: BinaryIO, path: Path) -> None:
    """Unlock it, as Windows may take its time when a file is just closed. And remove
    it, with its folder if that is empty: those who removed all else could not, as it
    was open. Nor can it be removed here if another process has it open by now.
    """
    with suppress(OSError):  # where there are no locks
        _lock_byte(stream, "LK_UNLCK")
    stream.close()
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def _lock_byte(stream: BinaryIO, how: str) -> None:
    """Windows locks parts of a file: here the first byte, which need not exist."""
    import msvcrt

    stream.seek(0)
    locking = msvcrt.locking  # type: ignore[attr-defined]
    locking(stream.fileno(), getattr(msvcrt, how), 1)
