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
        SaeUnreadable: it is missing, far too large, no JSON, or no object.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SaeUnreadable(f"{path} is far too large for a settings file.")
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SaeUnreadable(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(plain, dict):
        raise SaeUnreadable(f"{path} holds no JSON object.")
    return plain
