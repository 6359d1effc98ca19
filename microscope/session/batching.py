"""Lets listeners hear of many changes at once, each field's last value once."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.session.session import Session


@contextmanager
def heard_together(session: Session) -> Iterator[None]:
    """Hold the session's signals back for the `with` block; then emit each changed one once."""
    with ExitStack() as stack:
        for name in session.events.signals:
            stack.enter_context(session.events[name].paused(_newest))
        yield


def _newest(earlier: tuple[Any, ...], later: tuple[Any, ...]) -> tuple[Any, ...]:
    """One change out of two: the later value, and the value before both."""
    return (later[0], *earlier[1:])
