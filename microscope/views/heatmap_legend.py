"""The heatmap's colour scale with what its two ends mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QImage, QPainter
from PySide6.QtWidgets import QSizePolicy, QWidget

from microscope.views.colour_map import colour_table
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QPaintEvent

_SCALE_PX = 110.0


class HeatmapLegend(QWidget):
    """A strip of the colour table between two labels."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = "", ""
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_ends(self, low: str, high: str) -> None:
        """Replace the labels."""
        self._low, self._high = low, high
        self.updateGeometry()
        self.update()

    @guarded_else(QSize(180, 20))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        metrics = QFontMetricsF(current_theme().font(0.88))
        words = metrics.horizontalAdvance(self._low) + metrics.horizontalAdvance(self._high)
        return QSize(round(words + _SCALE_PX + 18), round(metrics.height() + 4))

    @guarded
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the theme's colours."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setFont(theme.font(0.88))
        painter.setPen(theme.colour("muted"))
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignLeft | middle, self._low)
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignRight | middle, self._high)
        left = QFontMetricsF(painter.font()).horizontalAdvance(self._low) + 8
        table = colour_table(theme.name)[1:].copy()
        strip = QImage(table.data, len(table), 1, table.nbytes, QImage.Format.Format_RGB888)
        painter.drawImage(QRectF(left, self.height() / 2 - 5, _SCALE_PX, 10), strip)
        painter.end()
