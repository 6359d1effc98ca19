"""The tokens of the prompt as a row of chips; one is under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QPainter
from PySide6.QtWidgets import QAbstractScrollArea, QSizePolicy, QToolTip, QWidget

from microscope.session.derived import visible_text
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import (
        QHelpEvent,
        QKeyEvent,
        QMouseEvent,
        QPaintEvent,
        QResizeEvent,
        QWheelEvent,
    )

    from microscope.core.prompts import Token

_GAP_PX = 3.0
_PAD_PX = 7.0


class TokenStrip(QAbstractScrollArea):
    """Draws the chips in view; a click or an arrow key emits `token_chosen`."""

    token_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tokens: tuple[Token, ...] = ()
        self._texts: tuple[str, ...] = ()
        self._edges = np.zeros(1)  # (n_tokens + 1,), left edges in px; the last is the end
        self._cursor = 0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Tokens of the prompt")
        self._measure()

    def show_tokens(self, tokens: Sequence[Token]) -> None:
        """Replace the chips."""
        self._tokens = tuple(tokens)
        self._texts = tuple(visible_text(token.text) for token in tokens)
        self._measure()

    def show_cursor(self, token: int) -> None:
        """Mark one chip and bring it into view."""
        self._cursor = token
        self._reveal()
        self.viewport().update()

    def token_at(self, x: float) -> int | None:
        """The token drawn at a horizontal position of the viewport."""
        at = x + self.horizontalScrollBar().value()
        row = int(np.searchsorted(self._edges, at, side="right")) - 1
        return row if 0 <= row < len(self._tokens) else None

    def _measure(self) -> None:
        metrics = QFontMetricsF(self.font())
        widths = [metrics.horizontalAdvance(t) + 2 * _PAD_PX + _GAP_PX for t in self._texts]
        self._edges = np.concatenate([[0.0], np.cumsum(widths)])
        self._chip_height = metrics.height() + 8
        self._fit_scroll_bar()
        self.viewport().update()

    def _fit_scroll_bar(self) -> None:
        bar, width = self.horizontalScrollBar(), self.viewport().width()
        overflows = self._edges[-1] > width
        self.setFixedHeight(
            round(self._chip_height + 5) + (bar.sizeHint().height() + 3) * overflows
        )
        bar.setRange(0, max(0, round(self._edges[-1]) - width))
        bar.setPageStep(width)
        bar.setSingleStep(30)
        self._reveal()

    def _reveal(self) -> None:
        if not 0 <= self._cursor < len(self._tokens):
            return
        bar = self.horizontalScrollBar()
        left, right = self._edges[self._cursor], self._edges[self._cursor + 1]
        low, high = round(right) - self.viewport().width() + 24, round(left) - 24
        bar.setValue(min(max(bar.value(), low), max(high, low)))

    @guarded_else(QSize(200, 40))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        return QSize(200, self.height())

    @guarded
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the room there is."""
        self._fit_scroll_bar()

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._measure()

    @guarded
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the theme's colours."""
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        first = self.token_at(0) or 0
        offset, width = self.horizontalScrollBar().value(), self.viewport().width()
        for row in range(first, len(self._tokens)):
            left = self._edges[row] - offset
            if left > width:
                break
            chip = self._edges[row + 1] - self._edges[row] - _GAP_PX
            self._draw_chip(painter, row, QRectF(left + 0.5, 1.5, chip, self._chip_height))
        painter.end()

    def _draw_chip(self, painter: QPainter, row: int, box: QRectF) -> None:
        theme = current_theme()
        is_cursor, is_special = row == self._cursor, self._tokens[row].is_special
        painter.setPen(theme.colour("accent" if is_cursor else "border"))
        fill = "accent" if is_cursor else "surface" if is_special else "raised"
        painter.setBrush(theme.colour(fill))
        painter.drawRoundedRect(box, 5, 5)
        ink = "on_accent" if is_cursor else "muted" if is_special else "text"
        painter.setPen(theme.colour(ink))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, self._texts[row])

    @guarded
    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a press of the button."""
        token = self.token_at(event.position().x())
        if token is not None and event.button() == Qt.MouseButton.LeftButton:
            self.token_chosen.emit(token)

    @guarded
    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Act on the keys that mean something here."""
        last = len(self._tokens) - 1
        wanted = {
            Qt.Key.Key_Left: self._cursor - 1,
            Qt.Key.Key_Right: self._cursor + 1,
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: last,
        }.get(Qt.Key(event.key()))
        if wanted is None:
            super().keyPressEvent(event)
        elif 0 <= wanted <= last and wanted != self._cursor:
            self.token_chosen.emit(wanted)

    @guarded
    def wheelEvent(self, event: QWheelEvent) -> None:
        """Act on the wheel."""
        delta = event.angleDelta()
        bar = self.horizontalScrollBar()
        bar.setValue(bar.value() - (delta.x() or delta.y()))

    @guarded_else(True)
    def viewportEvent(self, event: QEvent) -> bool:
        """Answer the wish for a tooltip."""
        if event.type() == QEvent.Type.ToolTip:
            return self._show_tip(event)  # type: ignore[arg-type]  # a ToolTip is a QHelpEvent
        return super().viewportEvent(event)

    def _show_tip(self, event: QHelpEvent) -> bool:
        row = self.token_at(event.pos().x())
        place: QPoint = event.globalPos()
        QToolTip.showText(place, "" if row is None else self._facts(row), self)
        return True

    def _facts(self, row: int) -> str:
        token = self._tokens[row]
        kind = " (special)" if token.is_special else ""
        return f"token {row}: “{self._texts[row]}”{kind}\nid {token.id}"
