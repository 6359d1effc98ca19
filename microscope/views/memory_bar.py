"""An estimate of memory against what is free, as one bar with a mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from microscope.session.library_view import bar_parts
from microscope.storage.fitting import in_words
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QPaintEvent

    from microscope.core.library import Verdict
    from microscope.views.theme import Theme

_BAR_HEIGHT, _GAP = 16.0, 6.0
_OPACITIES = (0.95, 0.65, 0.45, 0.28)


class MemoryBar(QWidget):
    """Weights, SAEs, cache and work from the left; the line is where free memory ends."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._verdict: Verdict | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_verdict(self, verdict: Verdict) -> None:
        """Draw another estimate."""
        self._verdict = verdict
        self.setToolTip(self.legend())
        self.setAccessibleName(verdict.sentence)
        self.update()

    def legend(self) -> str:
        """What the bar is made of, in words."""
        if self._verdict is None:
            return ""
        return " · ".join(f"{name} {in_words(n)}" for name, n in bar_parts(self._verdict))

    @guarded_else(QSize(200, 44))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        text = QFontMetricsF(current_theme().font(0.88)).height()
        return QSize(200, round(_BAR_HEIGHT + _GAP + text + 4))

    @guarded
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the theme's colours."""
        verdict, theme = self._verdict, current_theme()
        if verdict is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        track = QRectF(0.5, 2.5, self.width() - 1, _BAR_HEIGHT)
        painter.fillRect(track, theme.colour("raised"))
        scale = track.width() / max(verdict.need.total, verdict.free_bytes or 0, 1)
        self._draw_parts(painter, track, scale, theme)
        if verdict.free_bytes is not None:
            self._draw_mark(painter, track, track.left() + verdict.free_bytes * scale, theme)
        painter.setFont(theme.font(0.88))
        painter.setPen(theme.colour("muted"))
        below = QRectF(0, track.bottom() + _GAP, self.width(), self.height())
        legend = painter.fontMetrics().elidedText(
            self.legend(), Qt.TextElideMode.ElideRight, self.width()
        )
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, legend)
        painter.end()

    def _draw_parts(self, painter: QPainter, track: QRectF, scale: float, theme: Theme) -> None:
        assert self._verdict is not None
        role, left = "accent" if self._verdict.fits else "bad", track.left()
        parts = bar_parts(self._verdict)
        for (_, size), opacity in zip(parts, _OPACITIES, strict=False):
            part = QRectF(left, track.top(), size * scale, track.height())
            painter.fillRect(part, theme.colour(role, opacity))
            left = part.right()

    @staticmethod
    def _draw_mark(painter: QPainter, track: QRectF, x: float, theme: Theme) -> None:
        inside = min(x, track.right() - 1)
        painter.setPen(QPen(theme.colour("text"), 2))
        painter.drawLine(QPointF(inside, track.top() - 2), QPointF(inside, track.bottom() + 2))
