"""Values of records, checked: whatever is not of the expected kind is refused in words.

Numbers that are not finite count as not known, since exports have NaN where a division
failed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from microscope.core.pages import Example, Histogram, TokenWeight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Record = Mapping[str, Any]

MAX_INDEX = 1 << 26
MAX_LABEL_CHARACTERS = 4_000
MAX_TOKEN_CHARACTERS = 200
MAX_TOKENS_LISTED = 20
MAX_BINS = 200
TOKENS_AROUND_PEAK = 24
"""How many tokens of an example are kept before its largest activation, and after it."""

_MARKS = str.maketrans({"Ġ": " ", "Ċ": "\n", "▁": " "})


class MalformedError(ValueError):
    """Not as in any layout; the text completes "the labels cannot be read: "."""


def index_of(record: Record, *keys: str) -> int:
    """The feature's number, from the first of the keys that is there."""
    key = next((key for key in keys if key in record), keys[0])
    return feature_index(record.get(key), key)


def feature_index(value: object, key: str) -> int:
    """A feature's number, written as a number or as text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and len(value) < 12 and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_INDEX:
        raise MalformedError(f"{key} is {_shown(value)} and not the number of a feature")
    return value


def text(record: Record, key: str, limit: int = MAX_LABEL_CHARACTERS) -> str:
    """A text, shortened to `limit` characters; empty where there is none."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedError(f"{key} is {_shown(value)} and not a text")
    return clean(value, limit)


def clean(value: str, limit: int = MAX_LABEL_CHARACTERS) -> str:
    """A text without halves of characters, which no file could hold."""
    return value[:limit].strip("\0").encode("utf-8", "replace").decode("utf-8")


def name(record: Record, *keys: str) -> str:
    """A short text or number, from the first of the keys that has one."""
    found = next((record[key] for key in keys if record.get(key) not in (None, "")), "")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise MalformedError(f"{keys[0]} is {_shown(found)} and not a name")
    return clean(str(found), MAX_TOKEN_CHARACTERS)


def number(record: Record, key: str) -> float | None:
    """A finite number, or None."""
    value = record.get(key)
    return None if value is None else _number(value, key)


def numbers(record: Record, key: str, limit: int) -> list[float | None]:
    """The first `limit` numbers of a list; None where one is not finite."""
    return [_number(value, key) for value in _list(record, key)[:limit]]


def records(record: Record, key: str) -> list[Record]:
    """A list of records; empty where there is none."""
    found = _list(record, key)
    if not all(isinstance(item, dict) for item in found):
        raise MalformedError(f"{key} has entries that are not objects")
    return found


def tokens(record: Record, key: str, limit: int | None = None) -> list[str]:
    """Tokens for display: spaces and line ends as themselves."""
    found = _list(record, key)[:limit]
    if not all(isinstance(token, str) for token in found):
        raise MalformedError(f"{key} has entries that are not texts")
    return [clean(token.translate(_MARKS), MAX_TOKEN_CHARACTERS) for token in found]


def token_weights(record: Record, key: str, weights_key: str) -> tuple[TokenWeight, ...]:
    """Tokens with their logits; without weights each has 0."""
    texts = tokens(record, key, MAX_TOKENS_LISTED)
    weights = numbers(record, weights_key, MAX_TOKENS_LISTED) or [0.0] * len(texts)
    _check_lengths(key, texts, weights_key, weights)
    return tuple(TokenWeight(t, w or 0.0) for t, w in zip(texts, weights, strict=True))


def histogram(
    centres: Sequence[float | None], counts: Sequence[float | None]
) -> Histogram | None:
    """Bars; None where there are none, as for a feature that is never on."""
    _check_lengths("the histogram's centres", centres, "its counts", counts)
    bars = [(x, n) for x, n in zip(centres, counts, strict=True) if None not in (x, n)]
    if not bars:
        return None
    return Histogram(tuple(x or 0.0 for x, _ in bars), tuple(n or 0.0 for _, n in bars))


def example(record: Record, tokens_key: str, values_key: str) -> Example:
    """A text with activations, cut to what stands around its peak."""
    texts = _list(record, tokens_key)
    values = _list(record, values_key)
    _check_lengths(tokens_key, texts, values_key, values)
    activations = [_number(value, values_key) or 0.0 for value in values]
    peak = max(range(len(activations)), key=activations.__getitem__, default=0)
    kept = slice(max(0, peak - TOKENS_AROUND_PEAK), peak + TOKENS_AROUND_PEAK + 1)
    cut = {tokens_key: texts[kept]}
    return Example(tuple(tokens(cut, tokens_key)), tuple(activations[kept]))


def _check_lengths(
    key: str, first: Sequence[object], other_key: str, second: Sequence[object]
) -> None:
    if len(first) != len(second):
        raise MalformedError(
            f"{key} and {other_key} have different lengths, {len(first)} and {len(second)}"
        )


def _number(value: object, key: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"{key} has {_shown(value)} where a number belongs")
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _list(record: Record, key: str) -> list[Any]:
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedError(f"{key} is {_shown(value)} and not a list")
    return value


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
