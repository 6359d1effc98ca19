"""The only place where an engine event changes thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal

if TYPE_CHECKING:
    from microscope.core.messages import AnyEvent


class GuiThreadBridge(QObject):
    """Takes events on any thread and emits them, in order, as `arrived` on the GUI thread."""

    arrived = Signal(object)
    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def post(self, event: AnyEvent) -> None:
        """Safe to call from any thread."""
        self._posted.emit(event)

    def _deliver(self, event: AnyEvent) -> None:
        self.arrived.emit(event)
