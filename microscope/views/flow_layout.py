"""A layout that puts widgets in lines and starts a new line where the room ends."""

from __future__ import annotations

from PySide6.QtCore import QMargins, QRect, QSize, Qt
from PySide6.QtWidgets import QLayout, QLayoutItem, QWidget

from microscope.views.guard import guarded, guarded_else


class FlowLayout(QLayout):
    """Left to right, then down; as high as its width makes it."""

    def __init__(self, parent: QWidget | None = None, gap_px: int = 8) -> None:
        super().__init__(parent)
        self._items: list[QLayoutItem] = []
        self._gap = gap_px
        self.setContentsMargins(0, 0, 0, 0)

    @guarded
    def addItem(self, item: QLayoutItem, /) -> None:
        """Take another widget in."""
        self._items.append(item)

    @guarded_else(0)
    def count(self) -> int:
        """How many widgets there are."""
        return len(self._items)

    # Qt asks past the end to learn where the end is, and means None by its null pointer.
    @guarded
    def itemAt(self, index: int, /) -> QLayoutItem:
        """The widget's place at an index, or None past the end."""
        return self._items[index] if 0 <= index < len(self._items) else None  # type: ignore[return-value]

    @guarded
    def takeAt(self, index: int, /) -> QLayoutItem:
        """Give a widget up."""
        return self._items.pop(index) if 0 <= index < len(self._items) else None  # type: ignore[return-value]

    @guarded_else(Qt.Orientation(0))
    def expandingDirections(self) -> Qt.Orientation:
        """It takes no more room than it needs."""
        return Qt.Orientation(0)

    @guarded_else(True)
    def hasHeightForWidth(self) -> bool:
        """It is higher where it is narrower."""
        return True

    @guarded_else(0)
    def heightForWidth(self, width: int, /) -> int:
        """The height that a width makes."""
        return self._arrange(QRect(0, 0, width, 0), is_trial=True)

    @guarded
    def setGeometry(self, area: QRect, /) -> None:
        """Put the widgets in their places."""
        super().setGeometry(area)
        self._arrange(area, is_trial=False)

    @guarded_else(QSize(100, 30))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        return self.minimumSize()

    @guarded_else(QSize(100, 30))
    def minimumSize(self) -> QSize:
        """Room for the largest widget."""
        size = QSize()
        for item in self._items:
            size = size.expandedTo(item.minimumSize())
        margins: QMargins = self.contentsMargins()
        return size.grownBy(margins)

    def _arrange(self, area: QRect, *, is_trial: bool) -> int:
        x, y, line = area.x(), area.y(), 0
        for item in self._items:
            size = item.sizeHint()
            if line and x + size.width() > area.right() + 1:
                x, y, line = area.x(), y + line + self._gap // 2, 0
            if not is_trial:
                item.setGeometry(QRect(x, y, size.width(), size.height()))
            x, line = x + size.width() + self._gap, max(line, size.height())
        return y + line - area.y()
