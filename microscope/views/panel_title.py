"""The line above a panel: its name, what it shows in a few words, and a button to detach it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPoint, QSize, Qt
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QToolButton, QWidget

from microscope.views.guard import guarded
from microscope.views.icons import icon
from microscope.views.notice import ElidedLabel, label
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QMouseEvent

_LIFTED = QPoint(28, -28)


class PanelTitle(QWidget):
    """A title and a hint; for a dock also its handle."""

    def __init__(self, title: str, hint: str, dock: QDockWidget | None = None) -> None:
        super().__init__(dock)
        self._dock, self._button = dock, QToolButton()
        self._title, self._hint = label(title, "title"), ElidedLabel(hint, "hint")
        self._button.setProperty("role", "flat")
        self._button.setIconSize(QSize(13, 13))
        self._button.setVisible(dock is not None)
        self._button.setToolTip("Detach this panel, or put it back.")
        self._button.clicked.connect(self._on_float)
        self.setToolTip(hint)
        layout = QHBoxLayout(self)
        layout.addStrut(26)  # as high without the button
        layout.setContentsMargins(8, 2, 4, 2)
        layout.setSpacing(9)
        layout.addWidget(self._title, alignment=Qt.AlignmentFlag.AlignVCenter)
        layout.addWidget(self._hint, 1)
        layout.addWidget(self._button)
        self._dress()

    def _dress(self) -> None:
        self._button.setIcon(icon("float", current_theme().muted))

    def _on_float(self) -> None:
        if self._dock is None:
            return
        self._dock.setFloating(not self._dock.isFloating())
        if self._dock.isFloating():  # it is seen to come off
            self._dock.move(self._dock.pos() + _LIFTED)

    # A dock's title bar is dragged by the dock, so it must not take the mouse itself.

    @guarded
    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a press of the button."""
        event.ignore()

    @guarded
    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a release."""
        event.ignore()

    @guarded
    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a move."""
        event.ignore()

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_hint"):
            self._dress()
