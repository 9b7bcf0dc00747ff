"""Files of vectors, written piece by piece, so that finished vectors survive a crash.

Until the file is complete, the results are in a folder beside it:

- `vectors.npy`: the vectors. The header comes first and has room for any number of
  rows, so that it is only filled in at the end.
- `records.jsonl`: what the vectors are of, for formats that repeat it.
- `state.json`: how much of the two files above is valid, and the arguments that they
  were made with. It is replaced after each addition; whatever they hold beyond what it
  says is cut off.

The file itself is created by a rename, once it is complete.
"""

import hashlib
import importlib.util
import io
import json
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

import numpy as np

from ..atomic import make_private, make_private_folder, move_file, sync, write_text
from ..errors import Errors
from ..text_files import SURROGATES
from ..types import Floats

FORMATS = (".npy", ".jsonl", ".parquet")

VECTOR_KEY = "vector"

_VECTORS, _RECORDS, _STATE, _WHOLE = (
    "vectors.npy",
    "records.jsonl",
    "state.json",
    "whole",
)
_LOCK = "lock"

# What the state has, and of what type. No number is negative.
_STATE_KEYS = {"arguments": dict, "n_texts": int, "n_record_bytes": int, "digest": str}

# Rows of Parquet that are in memory at a time.
_ROWS = 4096


def check_output(output: Path, *, text_key: Optional[str], force: bool) -> None:
    """See that a file can be written, before any work is done.

    output (Path): The file.
    text_key (Optional[str]): The key of the text in each record of the input; None if
        the input has no records.
    force (bool): Whether it may exist.
    RAISES (ValueError): If the file exists but may not, or is a folder, its name does
        not say the format, the library that writes the format is not installed, the
        vectors would replace the texts, or the folder of what is finished is another's.
    """
    if output.suffix not in FORMATS:
        raise ValueError(
            Errors.EMBED_BAD_OUTPUT.format(path=output, known=", ".join(FORMATS))
        )
    if output.suffix == ".jsonl" and text_key == VECTOR_KEY:
        raise ValueError(Errors.EMBED_TEXT_IN_VECTOR.format(key=text_key, path=output))
    if output.is_dir():
        raise ValueError(Errors.EMBED_OUTPUT_IS_FOLDER.format(path=output))
    if output.exists() and not force:
        raise ValueError(Errors.EMBED_OUTPUT_EXISTS.format(path=output))
    if output.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(Errors.EMBED_NO_PYARROW)
    folder = partial_folder(output)
    if os.path.lexists(folder):
        _check_is_own(folder)


class PartialFile:
    """The vectors of a file that is not complete yet.

    output (Path): The file that it is to be.
    width (int): The width of the vectors.
    arguments (Mapping[str, Any]): What they are made with; must survive a round trip
        through JSON unchanged.

    Use it while `lock_of` is locked.
    """

    def __init__(self, output: Path, width: int, arguments: Mapping[str, Any]):
        self.output = output
        self.folder = partial_folder(output)
        self.width = width
        self.arguments = dict(arguments)
        self.n_texts = 0
        self._n_record_bytes = 0
        self._digest = ""

    def resume(self, *, force: bool) -> None:
        """Continue from what is there, or begin.

        force (bool): Whether to start from scratch if it was made with other arguments.
        RAISES (ValueError): If it was, and `force` is False; or if less is there
            than was done, or the state cannot be read.
        """
        state = self._read_state()
        if state and state["arguments"] != self.arguments:
            if state["n_texts"] and not force:
                raise ValueError(self._describe_difference(state["arguments"]))
            state = {}
        if not state:
            self._create()
            return
        self.n_texts = state["n_texts"]
        self._n_record_bytes = state["n_record_bytes"]
        self._digest = state["digest"]
        self._cut(_VECTORS, self._n_vector_bytes)
        self._cut(_RECORDS, self._n_record_bytes)

    def skip(self, texts: Iterator[str]) -> None:
        """Pass by the texts that are done.

        texts (Iterator[str]): All texts, from the first.
        RAISES (ValueError): If they are not those that were done.
        """
        digest = ""
        for done in range(self.n_texts):
            text = next(texts, None)
            if text is None:
                raise ValueError(
                    Errors.EMBED_OTHER_TEXTS.format(
                        folder=self.folder, n_texts=self.n_texts, found=done
                    )
                )
            digest = _chain(digest, text)
        if digest != self._digest:
            raise ValueError(
                Errors.EMBED_OTHER_TEXTS.format(
                    folder=self.folder, n_texts=self.n_texts, found="others"
                )
            )

    def add(
        self, vectors: Floats, texts: Sequence[str], records: Sequence[Dict[str, Any]]
    ) -> None:
        """Add vectors, for good.

        vectors (Floats): `(n_texts, width)`.
        texts (Sequence[str]): Their texts.
        records (Sequence[Dict[str, Any]]): The objects that they came in.
        RAISES (ValueError): If a vector is not finite. Then none of them is added.
        """
        is_finite = np.isfinite(vectors).all(axis=1)
        if not is_finite.all():
            # JSON has no such numbers, and nothing can be compared with them.
            number = self.n_texts + int(is_finite.argmin()) + 1
            raise ValueError(
                Errors.EMBED_NOT_FINITE.format(number=number, folder=self.folder)
            )
        with open(self.folder / _VECTORS, "ab") as stream:
            stream.write(vectors.astype("<f4").tobytes())
            sync(stream)
        if self.output.suffix != ".npy":
            data = "".join(
                json.dumps(self._repeated(text, record)) + "\n"
                for text, record in zip(texts, records, strict=True)
            ).encode()
            with open(self.folder / _RECORDS, "ab") as stream:
                stream.write(data)
                sync(stream)
            self._n_record_bytes += len(data)
        for text in texts:
            self._digest = _chain(self._digest, text)
        self.n_texts += len(texts)
        self._write_state()

    def finish(self) -> None:
        """Make the file, and remove the folder."""
        path = self.folder / _VECTORS
        with open(path, "r+b") as stream:
            stream.write(_npy_header(self.n_texts, self.width))
            sync(stream)
        if self.output.suffix != ".npy":
            write = _write_jsonl if self.output.suffix == ".jsonl" else _write_parquet
            vectors = np.load(path, mmap_mode="r")
            path = self.folder / _WHOLE
            with open(self.folder / _RECORDS, encoding="utf8") as records:
                write(path, vectors, map(json.loads, records))
            del vectors  # a mapped file cannot be removed on Windows
        move_file(path, self.output.resolve())
        self.discard()

    def discard(self) -> None:
        """Remove the folder, and what is in it. On a file system of the network, the
        lock, which is open, may keep the folder there. It then holds nothing to go on
        from.
        """
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _n_vector_bytes(self) -> int:
        return len(_npy_header(0, self.width)) + 4 * self.width * self.n_texts

    def _repeated(self, text: str, record: Dict[str, Any]) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): What the file is to say of a text: all that it came
        with for `.jsonl`; the text for `.parquet`, whose columns must be known
        beforehand.
        """
        return record if self.output.suffix == ".jsonl" else {"text": text}

    def _cut(self, name: str, n_bytes: int) -> None:
        """Cut off what was written after the state. A file that is shorter would get
        zeros instead.
        """
        path = self.folder / name
        found = path.stat().st_size
        if found < n_bytes:
            raise ValueError(
                Errors.EMBED_DAMAGED.format(
                    path=path, found=found, wanted=n_bytes, folder=self.folder
                )
            )
        os.truncate(path, n_bytes)

    def _create(self) -> None:
        # An old state would say that there is more.
        (self.folder / _STATE).unlink(missing_ok=True)
        for name, data in ((_VECTORS, _npy_header(0, self.width)), (_RECORDS, b"")):
            (self.folder / name).write_bytes(data)
        self._write_state()

    def _read_state(self) -> Dict[str, Any]:
        """RETURNS (Dict[str, Any]): The state; empty if there is none, or it was left
        after the vectors had become the file.
        """
        paths = [self.folder / name for name in (_STATE, _VECTORS, _RECORDS)]
        if not all(path.is_file() for path in paths):
            return {}
        try:
            state = json.loads(paths[0].read_text(encoding="utf8"))
            _check_state(state)
        except ValueError as error:
            raise ValueError(
                Errors.EMBED_BAD_STATE.format(
                    path=paths[0], error=error, folder=self.folder
                )
            ) from error
        return state

    def _write_state(self) -> None:
        state = {
            "arguments": self.arguments,
            "n_texts": self.n_texts,
            "n_record_bytes": self._n_record_bytes,
            "digest": self._digest,
        }
        write_text(self.folder / _STATE, json.dumps(state, indent=2))

    def _describe_difference(self, before: Mapping[str, Any]) -> str:
        names = {*before, *self.arguments}
        differing = [
            f"{name} was {before.get(name)!r} and is {self.arguments.get(name)!r}"
            for name in sorted(names)
            if before.get(name) != self.arguments.get(name)
        ]
        return Errors.EMBED_OTHER_ARGUMENTS.format(
            folder=self.folder, output=self.output, differing="; ".join(differing)
        )


def _check_state(state: Any) -> None:
    if not isinstance(state, dict):
        raise ValueError("it is no JSON object")
    for key, kind in _STATE_KEYS.items():
        value = state.get(key)
        if (isinstance(value, int) and value < 0) or not isinstance(value, kind):
            raise ValueError(f"its {key!r} is {value!r}")


def partial_folder(output: Path) -> Path:
    """RETURNS (Path): Where the results are until the file is complete: beside it, and
    not beside a link to it.
    """
    place = Path(os.path.realpath(output))
    return place.with_name(place.name + ".partial")


def lock_of(output: Path) -> Path:
    """Make the folder for the results, which is the user's alone.

    output (Path): The file that they are to be.
    RETURNS (Path): What is locked in it while they are made.
    RAISES (ValueError): If the folder is there and another's.
    """
    folder = partial_folder(output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        make_private_folder(folder)
    _check_is_own(folder)
    make_private(folder)  # as an older one may not be
    return folder / _LOCK


def _check_is_own(folder: Path) -> None:
    """Its name can be known beforehand. In a folder of all, such as `/tmp`, somebody
    else may have made it, with links in it to files that would be overwritten.
    """
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        what = "is a link"
    elif not stat.S_ISDIR(found.st_mode):
        what = "is not a folder"
    elif found.st_uid != _owner_of_new_files(folder.parent):
        what = f"belongs to another user ({found.st_uid})"
    else:
        return
    raise ValueError(Errors.EMBED_FOLDER_OF_OTHERS.format(folder=folder, what=what))


def _owner_of_new_files(folder: Path) -> int:
    """RETURNS (int): Whom what is made in a folder belongs to. That is the user, or on
    some file systems somebody that the system has set. On Windows, it is nobody.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        return os.fstat(stream.fileno()).st_uid


def _npy_header(n_rows: int, width: int) -> bytes:
    """It is equally long for any number of rows: NumPy leaves room for it to grow."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (n_rows, width)}
    )
    return header.getvalue()


def _write_jsonl(
    path: Path, vectors: Floats, records: Iterator[Dict[str, Any]]
) -> None:
    with open(path, "wb") as stream:
        for record, vector in zip(records, vectors, strict=True):
            record.pop(VECTOR_KEY, None)
            start = _dump(record)[:-1]
            # As few digits as tell a float32.
            numbers = ", ".join(map(str, vector))
            line = f'{start}, "{VECTOR_KEY}": [{numbers}]}}\n'
            stream.write(line.encode("utf8"))
        sync(stream)


def _dump(record: Dict[str, Any]) -> str:
    """RETURNS (str): An object as JSON that can be written in UTF-8."""
    text = json.dumps(record, ensure_ascii=False)
    # Half of a surrogate pair, as in a text that was cut inside one, has no UTF-8.
    return json.dumps(record) if SURROGATES.search(text) else text


def _write_parquet(
    path: Path, vectors: Floats, records: Iterator[Dict[str, Any]]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows, width = vectors.shape
    kind = pa.list_(pa.float32(), width)
    schema = pa.schema([("text", pa.string()), (VECTOR_KEY, kind)])
    with open(path, "wb") as stream:
        with pq.ParquetWriter(stream, schema) as writer:
            for start in range(0, n_rows, _ROWS):
                rows = np.asarray(vectors[start : start + _ROWS])
                texts = [record["text"] for record in islice(records, len(rows))]
                numbers = pa.array(rows.ravel(), pa.float32())
                columns = [
                    pa.array(texts, pa.string()),
                    pa.FixedSizeListArray.from_arrays(numbers, type=kind),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        sync(stream)


def _chain(digest: str, text: str) -> str:
    return hashlib.sha256((digest + text).encode("utf8")).hexdigest()
