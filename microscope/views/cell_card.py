"""A small floating card: the ten tokens that a cell of the heatmap holds, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter
from PySide6.QtWidgets import QWidget

from microscope.session.derived import percent
from microscope.views.guard import guarded
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtCore import QRect
    from PySide6.QtGui import QPaintEvent

    from microscope.session.derived import CellBar

_PAD_PX = 10.0
_WORD_PX = 104.0
_NUMBER_PX = 72.0
_BAR_PX = 112.0


class CellCard(QWidget):
    """Lies over its parent and lets the mouse through."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._area = parent  # to stay inside of
        self._title, self._foot = "", ""
        self._bars: tuple[CellBar, ...] = ()
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def show_cell(self, title: str, bars: Sequence[CellBar], foot: str, beside: QRect) -> None:
        """Show a cell's tokens next to where the cell is drawn (parent coordinates)."""
        self._title, self._bars, self._foot = title, tuple(bars), foot
        self.resize(self._size())
        self.move(*self._place(beside))
        self.raise_()
        self.show()
        self.update()

    def _line_px(self) -> float:
        return QFontMetricsF(current_theme().font()).height() + 4

    def _size(self) -> QSize:
        title = QFontMetricsF(current_theme().font(is_bold=True))
        scale = current_theme().scale
        width = max(
            (_WORD_PX + _NUMBER_PX + _BAR_PX) * scale, title.horizontalAdvance(self._title)
        )
        height = (len(self._bars) + 2) * self._line_px()
        return QSize(round(width + 2 * _PAD_PX), round(height + 2 * _PAD_PX))

    def _place(self, beside: QRect) -> tuple[int, int]:
        area = self._area.rect()
        x = beside.right() + 10
        if x + self.width() > area.right():
            x = beside.left() - 10 - self.width()
        y = beside.center().y() - self.height() // 2
        return max(x, 0), max(min(y, area.bottom() - self.height()), 0)

    @guarded
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the theme's colours."""
        theme, line = current_theme(), self._line_px()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(theme.colour("muted"))
        painter.setBrush(theme.colour("surface"))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 8, 8)
        inner = QRectF(self.rect()).adjusted(_PAD_PX, _PAD_PX, -_PAD_PX, -_PAD_PX)
        painter.setPen(theme.colour("text"))
        painter.setFont(theme.font(is_bold=True))
        row = QRectF(inner.left(), inner.top(), inner.width(), line)
        painter.drawText(row, Qt.AlignmentFlag.AlignVCenter, self._title)
        painter.setFont(theme.font())
        for bar in self._bars:
            row.translate(0, line)
            self._draw_bar(painter, row, bar)
        row.translate(0, line)
        painter.setFont(theme.font(0.88))
        painter.setPen(theme.colour("muted"))
        painter.drawText(row, Qt.AlignmentFlag.AlignVCenter, self._foot)
        painter.end()

    def _draw_bar(self, painter: QPainter, row: QRectF, bar: CellBar) -> None:
        theme, middle = current_theme(), Qt.AlignmentFlag.AlignVCenter
        word, number = _WORD_PX * theme.scale, _NUMBER_PX * theme.scale
        metrics = QFontMetricsF(painter.font())
        text = metrics.elidedText(bar.text, Qt.TextElideMode.ElideRight, word - 6)
        painter.setPen(theme.colour("text"))
        painter.drawText(row, middle, text)
        painter.drawText(
            QRectF(row.left() + word, row.top(), number - 8, row.height()),
            Qt.AlignmentFlag.AlignRight | middle,
            percent(bar.p),
        )
        track = row.adjusted(word + number, 5, 0, -5)
        painter.fillRect(track, theme.colour("raised"))
        track.setWidth(track.width() * min(max(bar.p, 0.0), 1.0))
        painter.fillRect(track, theme.colour("accent"))
