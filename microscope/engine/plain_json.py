"""A JSON object from a file that somebody else wrote."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def read_plain(path: Path, max_bytes: int) -> dict[str, Any]:
    """The object in a JSON file; Python's parser, since NaN and Infinity do occur.

    Raises:
        ValueError: it is missing, too large, no JSON, no object, or says something twice; the
            text is the reason, without the path.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError("it is far too large")
        text = path.read_text(encoding="utf-8")
        plain = json.loads(text, object_pairs_hook=_without_repetition)
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(plain, dict):
        raise ValueError("it holds no JSON object")
    return plain


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; with a key twice, programs would differ in which of the values they take."""
    plain = dict(pairs)
    if len(plain) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} is in it twice")
    return plain
