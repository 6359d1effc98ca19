"""A slider for a clamp's value, with ticks at nothing and at the feature's maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QSlider, QWidget

from microscope.session.derived import ClampScale
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QMouseEvent, QPaintEvent

_STEPS = 560
_HANDLE_PX = 7.0


class ClampSlider(QSlider):
    """Shows a value in the units of a `ClampScale`; emits the units the user asks for."""

    units_requested = Signal(float)
    gesture_ended = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._scale = ClampScale(1.0, -20.0, 20.0, "", (0.0,))
        self.setRange(0, _STEPS)
        self.setSingleStep(4)
        self.setPageStep(20)
        self.setMinimumWidth(110)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.valueChanged.connect(self._on_moved)
        self.sliderReleased.connect(self.gesture_ended)

    def show_value(self, scale: ClampScale, units: float) -> None:
        """Follow the session without echo; a value off the scale rests at its end."""
        if self.isSliderDown() and scale.unit == self._scale.unit:
            return  # a hand on the handle knows better, and the scale must not slide under it
        self._scale = scale
        share = (units - scale.low) / (scale.high - scale.low)
        with QSignalBlocker(self):
            self.setValue(round(min(max(share, 0.0), 1.0) * _STEPS))
        self.update()

    def _on_moved(self, steps: int) -> None:
        self.units_requested.emit(self._units(steps))
        if not self.isSliderDown():  # a key or the wheel: a gesture of its own
            self.gesture_ended.emit()

    def _units(self, steps: int) -> float:
        scale = self._scale
        return scale.low + steps / _STEPS * (scale.high - scale.low)

    # -- mouse: the handle jumps to where the button goes down ---------------------------

    @guarded
    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a press of the button."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.setSliderDown(True)
            self._move_to(event.position().x())

    @guarded
    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a move."""
        if self.isSliderDown():
            self._move_to(event.position().x())

    @guarded
    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Take or pass on a release."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.setSliderDown(False)

    def _move_to(self, x: float) -> None:
        track = self._track()
        share = (x - track.left()) / max(track.width(), 1.0)
        self.setValue(round(min(max(share, 0.0), 1.0) * _STEPS))

    # -- drawing ------------------------------------------------------------------------

    def _track(self) -> QRectF:
        left = _HANDLE_PX + 3
        return QRectF(left, self._track_y() - 2, self.width() - 2 * left, 4)

    def _track_y(self) -> float:
        return self.height() / 2 - QFontMetricsF(current_theme().font(0.78)).height() / 2 + 2

    def _x(self, units: float) -> float:
        track, scale = self._track(), self._scale
        return track.left() + (units - scale.low) / (scale.high - scale.low) * track.width()

    @guarded_else(QSize(200, 40))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        words = QFontMetricsF(current_theme().font(0.78)).height()
        return QSize(200, round(2 * _HANDLE_PX + words + 8))

    @guarded_else(QSize(110, 40))
    def minimumSizeHint(self) -> QSize:
        """The least size it can do with."""
        return QSize(110, self.sizeHint().height())

    @guarded
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the theme's colours."""
        theme, track = current_theme(), self._track()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("border"))
        painter.drawRoundedRect(track, 2, 2)
        self._draw_ticks(painter)
        zero, handle = self._x(0.0), self._x(self._units(self.value()))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("steered" if self.isEnabled() else "muted"))
        painter.drawRect(
            QRectF(min(zero, handle), track.top(), abs(handle - zero), track.height())
        )
        painter.setPen(QPen(theme.colour("text" if self.hasFocus() else "surface"), 2))
        radius = _HANDLE_PX
        painter.drawEllipse(
            QRectF(handle - radius, track.center().y() - radius, 2 * radius, 2 * radius)
        )
        painter.end()

    def _draw_ticks(self, painter: QPainter) -> None:
        theme, track = current_theme(), self._track()
        painter.setFont(theme.font(0.78))
        metrics = QFontMetricsF(painter.font())
        painter.setPen(QPen(theme.colour("muted"), 1))
        for tick in self._scale.ticks:
            x = self._x(tick)
            painter.drawLine(
                round(x), round(track.top() - 5), round(x), round(track.bottom() + 6)
            )
        for units, side in self._tick_labels():
            text = f"{units:.3g}".replace("-", "−")
            width = metrics.horizontalAdvance(text)
            left = self._x(units) - width * side
            y = track.bottom() + 5 + metrics.ascent()
            painter.drawText(round(left), round(y), text)

    def _tick_labels(self) -> list[tuple[float, float]]:
        """Units, and which share of the label's width stands left of the tick."""
        scale = self._scale
        inner = [(tick, 0.5) for tick in scale.ticks]
        return [(scale.low, 0.2), *inner, (scale.high, 0.8)]
