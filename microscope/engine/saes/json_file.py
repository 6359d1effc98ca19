"""A JSON settings file read with suspicion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from microscope.core.errors import SaeUnreadable

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 24


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; Python's parser, since NaN and Infinity do occur.

    Raises:
        SaeUnreadable: it is missing, far too large, no JSON, no object, or it says something
            twice.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SaeUnreadable(f"{path} is far too large for a settings file.")
        text = path.read_text(encoding="utf-8")
        plain = json.loads(text, object_pairs_hook=_without_repetition)
    except (OSError, ValueError, RecursionError) as error:
        raise SaeUnreadable(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(plain, dict):
        raise SaeUnreadable(f"{path} holds no JSON object.")
    return plain


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; with a key twice, programs would differ in which of the values they take."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(k for k in keys if keys.count(k) > 1)!r} is in it twice")
    return plain
