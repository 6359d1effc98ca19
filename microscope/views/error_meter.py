"""How much of the residual stream the SAE leaves unexplained, as a small meter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetricsF, QPainter
from PySide6.QtWidgets import QSizePolicy, QWidget

from microscope.session.derived import percent
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QPaintEvent

_ABOUT = (
    "The SAE explains the model's state as a sum of features. This is the share of the\n"
    "state's squared length that the sum misses (the error term). A clamp leaves that\n"
    "part as it is."
)


class ErrorMeter(QWidget):
    """A sentence, a bar and a number."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shares: tuple[float, float] | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(_ABOUT)

    def show_shares(self, shares: tuple[float, float] | None) -> None:
        """Smallest and largest share among the SAEs shown; None where not known."""
        self._shares = shares
        self.setAccessibleName(self.sentence())
        self.update()

    def sentence(self) -> str:
        """The meter in words."""
        if self._shares is None:
            return "unexplained by the SAE: not known yet"
        low, high = (percent(share) for share in self._shares)
        if low == high:
            return f"unexplained by the SAE: {high}"
        return f"unexplained by the SAEs: {low} to {high}"

    @guarded_else(QSize(160, 22))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        return QSize(160, round(QFontMetricsF(current_theme().font()).height() + 6))

    @guarded
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the theme's colours."""
        theme, painter = current_theme(), QPainter(self)
        painter.setFont(theme.font(0.92))
        painter.setPen(theme.colour("text" if self._shares else "muted"))
        text = self.sentence()
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter, text)
        left = QFontMetricsF(painter.font()).horizontalAdvance(text) + 10
        track = QRectF(left, self.height() / 2 - 4, self.width() - left - 2, 8)
        if self._shares and track.width() > 20:
            painter.fillRect(track, theme.colour("raised"))
            track.setWidth(track.width() * min(max(self._shares[1], 0.0), 1.0))
            painter.fillRect(track, theme.colour("muted"))
        painter.end()
