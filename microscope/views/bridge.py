"""The only place where an engine event changes thread."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer, Signal

if TYPE_CHECKING:
    from microscope.core.library import LibraryEvent
    from microscope.core.messages import AnyEvent

FRAME_S = 0.016


class GuiThreadBridge(QObject):
    """Takes events on any thread; emits them in order, in batches, on the GUI thread.

    At most one batch a frame: an engine that is faster than the window fills the next batch
    and not Qt's queue, so the window draws each frame once and is never behind. The first
    event after a pause is delivered at once.
    """

    arrived = Signal(tuple)
    _posted = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = threading.Lock()
        self._waiting: list[object] = []
        self._last_delivery = 0.0
        self._frame = QTimer(self)
        self._frame.setSingleShot(True)
        self._frame.setTimerType(Qt.TimerType.PreciseTimer)
        self._frame.timeout.connect(self._deliver)
        self._posted.connect(self._schedule, Qt.ConnectionType.QueuedConnection)

    def post(self, event: AnyEvent | LibraryEvent) -> None:
        """Safe to call from any thread."""
        with self._lock:
            self._waiting.append(event)
            is_first = len(self._waiting) == 1
        if is_first:
            self._posted.emit()

    def _schedule(self) -> None:
        rest_s = FRAME_S - (monotonic() - self._last_delivery)
        self._frame.start(max(0, round(rest_s * 1000)))

    def _deliver(self) -> None:
        with self._lock:
            batch, self._waiting = tuple(self._waiting), []
        if batch:
            self.arrived.emit(batch)
        self._last_delivery = monotonic()
