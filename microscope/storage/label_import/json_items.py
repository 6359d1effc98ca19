"""JSON values out of text, one at a time: lines, the items of an array, or one object.

NaN and Infinity are accepted, as these files have them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from microscope.storage.label_import.values import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ITEM_CHARACTERS = 1 << 24
"""The most that one item of an array may hold."""

MAX_OBJECT_CHARACTERS = 1 << 26
"""The most that one object alone may hold; it is read whole."""

MAX_BRACKETS = 2_000_000
"""Objects and lists that one text may hold: each costs far more memory than its brackets."""

_SPACE = " \t\r\n"
_decoder = json.JSONDecoder()


def parsed(text: str) -> Any:
    """One whole value. Raises `MalformedError`."""
    if text.count("{") + text.count("[") > MAX_BRACKETS:
        raise MalformedError("it holds more objects than any file of labels")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"it is not JSON ({_first_words(error)})") from error


def items_of_array(pieces: Iterable[str]) -> Iterator[Any]:
    """The items of an array that comes in pieces, each as soon as it is whole.

    Raises:
        MalformedError: it is no array, ends too early, or an item is too large.
    """
    buffer = _Buffer(iter(pieces))
    buffer.take("[")
    if buffer.next_is("]"):
        return
    while True:
        yield buffer.item()
        if buffer.next_is("]"):
            return
        buffer.take(",")


class _Buffer:
    """Text that has come and has not been used yet."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._text = ""
        self._at = 0

    def next_is(self, character: str) -> bool:
        """Whether the next character that is no space is this one."""
        return self._next() == character

    def take(self, character: str) -> None:
        """Step over a character that must be next."""
        if self._next() != character:
            raise MalformedError(
                f"it is not JSON (there is no {character!r} where one belongs)"
            )
        self._at += 1

    def item(self) -> Any:
        """One value."""
        self._next()
        wanted = 0
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise MalformedError("its JSON is nested too deeply") from error
            except ValueError as error:
                # Perhaps the rest of it has not come yet: ask for as much again.
                wanted = max(2 * wanted, 1 << 16)
                if not self._more(wanted):
                    raise MalformedError(f"it is not JSON ({_first_words(error)})") from error
            else:
                if end < len(self._text) or not self._more(1):  # a number may go on
                    self._at = end
                    return value

    def _next(self) -> str:
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(1):
                return ""

    def _more(self, n_wanted: int) -> bool:
        """Add at least so many characters, if they come; False at the end."""
        fresh: list[str] = []
        while n_wanted > 0 and (piece := next(self._pieces, "")):
            fresh.append(piece)
            n_wanted -= len(piece)
        self._text = "".join((self._text[self._at :], *fresh))
        self._at = 0
        if len(self._text) > MAX_ITEM_CHARACTERS:
            raise MalformedError("one of its items is larger than any label")
        return bool(fresh)


def _first_words(error: BaseException) -> str:
    return str(error)[:80] or type(error).__name__
