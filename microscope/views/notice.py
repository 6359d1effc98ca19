"""Small things that panels say: an inline message, and a page for when there is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from microscope.views.guard import guarded, guarded_else

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent


def label(text: str, role: str = "") -> QLabel:
    """A label that the stylesheet dresses by its role."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("role", role)
    return made


class ElidedLabel(QLabel):
    """A line that gives way: what does not fit is cut with an ellipsis, and in the tooltip."""

    def __init__(self, text: str = "", role: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = text
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setMinimumWidth(20)

    def say(self, text: str) -> None:
        """Replace the line."""
        self._whole = text
        self.updateGeometry()
        self._elide()

    def _indent_px(self) -> int:
        return max(self.indent(), 0)

    def _elide(self) -> None:
        metrics = self.fontMetrics()
        room = self.width() - self._indent_px() - 2
        shown = metrics.elidedText(self._whole, Qt.TextElideMode.ElideRight, room)
        self.setText(shown)
        self.setToolTip("" if shown == self._whole else self._whole)

    @guarded_else(QSize(100, 20))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        width = self.fontMetrics().horizontalAdvance(self._whole)
        return QSize(width + self._indent_px() + 4, super().sizeHint().height())

    @guarded_else(QSize(20, 20))
    def minimumSizeHint(self) -> QSize:
        """The least size it can do with."""
        return QSize(20, super().minimumSizeHint().height())

    @guarded
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the room there is."""
        super().resizeEvent(event)
        self._elide()


class Notice(QLabel):
    """What went wrong here and what to do; takes no room while there is nothing to say."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "notice")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()

    def say(self, text: str) -> None:
        """Show the text, or nothing when it is empty."""
        self.setText(text)
        self.setVisible(bool(text))


class EmptyPage(QWidget):
    """A headline, a sentence on how to fill this panel, and perhaps a button that does."""

    asked = Signal()

    def __init__(self, button: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._sentence = label("", "headline"), label("", "sentence")
        self._button = QPushButton(button)
        self._button.setVisible(bool(button))
        self._button.clicked.connect(self._on_clicked)
        layout = QVBoxLayout(self)
        layout.addStretch(1)
        for text in (self._title, self._sentence):
            text.setAlignment(Qt.AlignmentFlag.AlignCenter)
            text.setWordWrap(True)
            text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            layout.addWidget(text)
        layout.addSpacing(6)
        layout.addWidget(self._button, alignment=Qt.AlignmentFlag.AlignCenter)
        layout.addStretch(1)

    def say(self, title: str, sentence: str, *, has_button: bool = True) -> None:
        """Replace headline and sentence; the button, if there is one, can be left out."""
        self._button.setVisible(has_button and bool(self._button.text()))
        self._title.setText(title)
        self._title.setVisible(bool(title))
        self._sentence.setText(sentence)

    def _on_clicked(self) -> None:
        self.asked.emit()
