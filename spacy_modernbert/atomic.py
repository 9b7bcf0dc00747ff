"""Files that appear whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterator


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its place, and rename it when it is complete. If that fails,
    what was there before is left as it was.

    path (Path): The file. Its folder is made if it does not exist.
    YIELDS (Path): Where to write, within the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def sync(stream: BinaryIO) -> None:
    """Have a file on the disk before it is renamed: else a crash may leave it empty.

    stream (BinaryIO): The file, open to write.
    """
    stream.flush()
    os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    path (Path): The file. Its folder is made if it does not exist.
    text (str): What to write.
    """
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf8")
