"""Numbers the runs and knows which of them are current."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from microscope.core.messages import AnyEvent, AnyRequest, Slot

PROCESS = 0
"""The run id of events that concern the engine process itself."""


class Runs:
    """One current run a slot; events of any other run are outdated."""

    def __init__(self, send: Callable[[AnyRequest], None]) -> None:
        self._send = send
        self._ids = count(1)
        self._current: dict[Slot, int] = {}

    def submit(self, slot: Slot, request: AnyRequest) -> None:
        """Send a request under a new run id that makes the slot's older runs outdated."""
        run_id = next(self._ids)
        self._current[slot] = run_id
        self._send(msgspec.structs.replace(request, run_id=run_id))

    def forget(self, slot: Slot) -> None:
        """Whatever still comes from the slot's run is outdated."""
        self._current.pop(slot, None)

    def is_current(self, event: AnyEvent) -> bool:
        """Whether the event is the process's own or of a slot's newest run."""
        return event.run_id == PROCESS or self.slot(event) is not None

    def slot(self, event: AnyEvent) -> Slot | None:
        """The slot whose current run the event belongs to."""
        return next((slot for slot, run in self._current.items() if run == event.run_id), None)
