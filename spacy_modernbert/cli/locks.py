"""A lock, so that only one process at a time writes an output."""

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from ..errors import Errors

# Where a file system has no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextmanager
def locked(path: Path, output: Path) -> Iterator[None]:
    """Within this context, no other process writes the same output.

    path (Path): The file that is locked, and stays. Its folder is made.
    output (Path): What it is for. Messages name it.
    RAISES (ValueError): If another process is writing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: there is no lock
        yield
        return
    # Not emptied: in a folder of others, it may be a link to something else.
    with open(path, "ab") as stream:
        try:
            # The system releases it when the process ends, however it ends.
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(Errors.OUTPUT_LOCKED.format(output=output)) from error
        except OSError as error:
            # As on many clusters. Then there is no lock.
            if error.errno not in NO_LOCKS:
                raise
        yield
