"""The JSON files of a checkpoint, read and written."""

import json
from pathlib import Path
from typing import Any, Mapping

from ..errors import Errors


def read_json_file(path: Path) -> Any:
    """Read a JSON file of a checkpoint.

    path (Path): The file.
    RETURNS (Any): The contents.
    RAISES (ValueError): If it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            Errors.CHECKPOINT_BAD_JSON.format(path=path, why=error)
        ) from error


def dump_json(data: Mapping[str, Any]) -> bytes:
    """RETURNS (bytes): What a JSON file of a checkpoint holds."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    # Half of a surrogate pair, which JSON can name, has no UTF-8.
    return text.encode("utf8", "backslashreplace")
