"""A JSON settings file read with suspicion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microscope.core.errors import SaeUnreadable
from microscope.engine.plain_json import read_plain

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 24


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        SaeUnreadable: it is missing, far too large, no JSON, no object, or it says something
            twice.
    """
    try:
        return read_plain(path, _MAX_BYTES)
    except ValueError as error:
        raise SaeUnreadable(f"{path} cannot be read as JSON: {error}.") from error
