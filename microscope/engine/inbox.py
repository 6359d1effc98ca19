"""The engine's letter box: one slot for each kind of request, the newest wins."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from microscope.core.messages import SLOTS, Cancel, Shutdown, Slot

if TYPE_CHECKING:
    from microscope.core.messages import AnyRequest

ORDER: tuple[Slot, ...] = ("model", "saes", "read", "generate", "checkup")

OUTDATES_WRITING: frozenset[Slot] = frozenset({"model", "saes", "generate"})


class Inbox:
    """Filled by the reading thread, emptied by the thread that runs the model."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Slot, AnyRequest] = {}
        self._is_closed = False

    def put(self, request: AnyRequest) -> None:
        """Take a request; one of its kind that still waits is forgotten."""
        with self._changed:
            if isinstance(request, Shutdown):
                self._is_closed = True
            else:
                self._waiting[slot_of(request)] = request
            self._changed.notify()

    def close(self) -> None:
        """There will be no more requests."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    @property
    def is_closed(self) -> bool:
        """Whether the engine should end."""
        with self._changed:
            return self._is_closed

    def outdates_writing(self) -> bool:
        """Whether what waits would end a text that is being written."""
        with self._changed:
            return self._is_closed or not OUTDATES_WRITING.isdisjoint(self._waiting)

    def take(self, *, wait: bool) -> list[AnyRequest]:
        """What has come since last time, in the order in which it must be started."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._is_closed or self._waiting)
            taken = [self._waiting[slot] for slot in ORDER if slot in self._waiting]
            self._waiting.clear()
            return taken


def slot_of(request: AnyRequest) -> Slot:
    """The slot that a request belongs in; a `Cancel` takes the place of what it cancels."""
    return request.slot if isinstance(request, Cancel) else SLOTS[type(request)]
