"""A model hub, without one."""

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

import huggingface_hub
import pytest


class Asked(NamedTuple):
    """What a hub is asked for."""

    name: str
    revision: Optional[str]
    patterns: Sequence[str]


def answer_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: Optional[str] = None
) -> List[Asked]:
    """Have the hub answer with a folder.

    name (Optional[str]): The one model that it has; None if it has any.
    RETURNS (List[Asked]): What it is asked for, from now on.
    """
    asked: List[Asked] = []

    def snapshot_download(
        of: str,
        revision: Optional[str],
        allow_patterns: Sequence[str],
        ignore_patterns: Optional[Sequence[str]] = None,
    ) -> str:
        asked.append(Asked(of, revision, allow_patterns))
        if name not in (None, of):
            raise ConnectionError("no network")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked
