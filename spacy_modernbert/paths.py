"""Paths that begin with `~`."""

from functools import wraps
from pathlib import Path
from typing import Any, Callable


def expanding(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command be given `~`, which shells leave in `--output=~/vectors.npy`. It
    would else name a folder of that name.

    command (Callable[..., None]): The function of a command.
    RETURNS (Callable[..., None]): One with the same signature, which hands on paths
        with the user's home in them.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        command(*map(_expand, args), **{k: _expand(v) for k, v in kwargs.items()})

    return run


def _expand(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_expand(each) for each in value]
    return value.expanduser() if isinstance(value, Path) else value
