"""Requests that wait to be written: one slot a kind, the newest wins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from microscope.core.messages import Cancel, Shutdown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.core.messages import AnyRequest


class Outbox:
    """Filled from any thread; iterated by the one that writes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[object, AnyRequest] = {}
        self._is_closed = False

    def put(self, request: AnyRequest) -> None:
        """Add a request in place of a waiting one of its kind, behind all others."""
        key = (Cancel, request.slot) if isinstance(request, Cancel) else type(request)
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = request
            self._changed.notify()

    def close(self) -> None:
        """Forget what waits and end the iteration."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify()

    def __iter__(self) -> Iterator[AnyRequest]:
        """Requests as they come, until closed or after a `Shutdown`."""
        while (request := self._next()) is not None:
            yield request
            if isinstance(request, Shutdown):
                return

    def _next(self) -> AnyRequest | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting)
            if self._is_closed:
                return None
            return self._waiting.pop(next(iter(self._waiting)))
