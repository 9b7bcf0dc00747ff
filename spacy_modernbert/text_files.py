"""Texts from a file or from standard input, one at a time and in order."""

import json
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ContextManager, Dict, Iterator, Optional

from .errors import Errors

STDIN = "-"

JSONL = (".jsonl", ".ndjson")
_DEFAULT_KEY = "text"

SURROGATES = re.compile("[\ud800-\udfff]")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class TextSource:
    """Where texts come from.

    place (str): A file, or "-" for standard input.
    key (Optional[str]): The key that has the text, if each line is a JSON object; None
        if each line is a text.
    """

    place: str
    key: Optional[str]

    @classmethod
    def of(cls, place: str, key: Optional[str]) -> "TextSource":
        """Tell from the name of a file what is in it.

        place (str): A file, or "-" for standard input.
        key (Optional[str]): The key that has the text: with one, it is JSONL, whatever
            the name.
        RETURNS (TextSource): The source.
        RAISES (ValueError): If there is no such file, or it is a .spacy file.
        """
        # A pipe such as <(zcat texts.gz) is no file, and can be read all the same.
        if place != STDIN and (not Path(place).exists() or Path(place).is_dir()):
            raise ValueError(Errors.NO_TEXT_FILE.format(path=place))
        if key is None and place.lower().endswith(".spacy"):
            raise ValueError(Errors.NO_TEXT_LINES.format(place=place))
        if key is None and place.lower().endswith(JSONL):
            key = _DEFAULT_KEY
        return cls(place, key)

    @property
    def is_file(self) -> bool:
        """RETURNS (bool): Whether it can be read again from the start."""
        return self.place != STDIN and Path(self.place).is_file()

    def text_of(self, record: Dict[str, Any]) -> str:
        """RETURNS (str): The text of a record."""
        return record[self.key or _DEFAULT_KEY]

    def read(self) -> Iterator[Dict[str, Any]]:
        """Read all there is.

        YIELDS (Dict[str, Any]): The object of a line of JSONL; `{"text": …}` for a line
            of text. Empty lines of JSONL are left out; an empty line of text is a text.
        RAISES (ValueError): If a line is not UTF-8, not a JSON object, or has no text
            under the key: the message has the number of the line. Or if lines are taken
            for texts, and the first is a JSON object.
        """
        with self._open() as stream:
            for number, raw in enumerate(stream, start=1):
                line = self._decode(raw, number)
                if self.key is None:
                    if number == 1:
                        self._check_is_no_object(line)
                    yield {_DEFAULT_KEY: line}
                elif line.strip():
                    yield self._parse(line, self.key, number)

    def _open(self) -> ContextManager[BinaryIO]:
        if self.place == STDIN:
            return nullcontext(sys.stdin.buffer)
        return open(self.place, "rb")

    def _check_is_no_object(self, line: str) -> None:
        """Keys and quotes would become part of each text."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(record, dict):
            keys = _name_keys(record)
            raise ValueError(Errors.LINES_ARE_JSON.format(place=self.place, keys=keys))

    def _decode(self, raw: bytes, number: int) -> str:
        if number == 1 and raw.startswith(_GZIP):
            raise ValueError(Errors.LINES_COMPRESSED.format(place=self.place))
        try:
            # A byte order mark is no part of the first text.
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                Errors.LINE_NOT_UTF8.format(
                    place=self.place, number=number, error=error
                )
            ) from error
        return line.removesuffix("\n").removesuffix("\r")

    def _parse(self, line: str, key: str, number: int) -> Dict[str, Any]:
        where = {"place": self.place, "number": number}
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                Errors.LINE_NOT_JSON.format(**where, error=error)
            ) from error
        if not isinstance(record, dict):
            raise ValueError(
                Errors.LINE_NOT_JSON.format(**where, error="it is not an object")
            )
        if key not in record:
            keys = _name_keys(record)
            raise ValueError(
                Errors.LINE_WITHOUT_KEY.format(**where, key=key, keys=keys)
            )
        text = record[key]
        if not isinstance(text, str) or SURROGATES.search(text):
            raise ValueError(
                Errors.LINE_WITHOUT_TEXT.format(**where, key=key, value=repr(text)[:60])
            )
        return record


def _name_keys(record: Dict[str, Any]) -> str:
    return ", ".join(map(repr, record)) or "none"
