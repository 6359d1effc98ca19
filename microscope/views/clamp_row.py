"""One clamp: what it holds, how, and at which value."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PySide6.QtCore import QEvent, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from microscope.core.features import CLAMP_MODES, Clamp, FeatureId
from microscope.views.clamp_slider import ClampSlider
from microscope.views.guard import guarded, guarded_else
from microscope.views.icons import icon
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QFontMetrics, QResizeEvent

    from microscope.session.derived import ClampScale

_MODE_TEXTS = {"clamp": "hold at", "add": "add", "scale": "multiply", "ablate": "switch off"}
_MODE_TIPS = {
    "clamp": "The feature has exactly this activation at every token.",
    "add": "This much is added to whatever activation the feature has.",
    "scale": "The feature's activation is multiplied by this; where it is off it stays off.",
    "ablate": "The feature is always off.",
}
_NOT_OPEN = "Its SAE is not open, so this has no effect yet."


class ClampShown(NamedTuple):
    """Everything a row draws."""

    clamp: Clamp
    label: str
    facts: str
    scale: ClampScale
    is_open: bool = True  # the feature's SAE is


class FeatureButton(QPushButton):
    """The feature's name, elided to the room there is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = ""
        self.setProperty("role", "name")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(76)

    def show_name(self, name: str) -> None:
        """Replace the name."""
        self._name = name
        self._elide()

    def _elide(self) -> None:
        room = self.width() - 18
        metrics: QFontMetrics = self.fontMetrics()
        self.setText(metrics.elidedText(self._name, Qt.TextElideMode.ElideRight, room))

    @guarded_else(QSize(120, 28))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        return QSize(120, super().sizeHint().height())

    @guarded_else(QSize(76, 28))
    def minimumSizeHint(self) -> QSize:
        """The least size it can do with."""
        return QSize(76, super().sizeHint().height())

    @guarded
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the room there is."""
        super().resizeEvent(event)
        self._elide()


class ClampRow(QFrame):
    """Shows one clamp; every signal carries the feature it is about."""

    value_requested = Signal(object, float)
    mode_chosen = Signal(object, str)
    mute_chosen = Signal(object, bool)
    removal_requested = Signal(object)
    feature_chosen = Signal(object)
    gesture_ended = Signal()

    def __init__(self, shown: ClampShown, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "row")
        self._feature: FeatureId = shown.clamp.feature
        self._shown = shown
        self._mute, self._remove = QToolButton(), QToolButton()
        self._name, self._mode = FeatureButton(), QComboBox()
        self._slider, self._spin = ClampSlider(), QDoubleSpinBox()
        self._explain()
        self._lay_out()
        self._connect()
        self.show_clamp(shown)

    def _explain(self) -> None:
        for mode in CLAMP_MODES:
            self._mode.addItem(_MODE_TEXTS[mode], mode)
            tip_role = Qt.ItemDataRole.ToolTipRole
            self._mode.setItemData(self._mode.count() - 1, _MODE_TIPS[mode], tip_role)
        self._mute.setCheckable(True)
        self._mute.setProperty("role", "flat")
        self._remove.setProperty("role", "flat")
        self._remove.setToolTip("Take this feature off the rack.")
        self._spin.setRange(-1e6, 1e6)
        self._spin.setDecimals(2)
        self._spin.setSingleStep(0.1)
        self._spin.setKeyboardTracking(False)
        self._spin.lineEdit().setTextMargins(4, 0, 4, 0)
        self._spin.setAlignment(Qt.AlignmentFlag.AlignRight)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(6)
        head.addWidget(self._mute)
        head.addWidget(self._name, 1)
        head.addWidget(self._mode)
        head.addWidget(self._spin)
        head.addWidget(self._remove)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 5, 6, 3)
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addWidget(self._slider)

    def _connect(self) -> None:
        self._slider.units_requested.connect(self._on_units)
        self._slider.gesture_ended.connect(self.gesture_ended)
        self._spin.valueChanged.connect(self._on_typed)
        self._mode.currentIndexChanged.connect(self._on_mode)
        self._mute.toggled.connect(self._on_mute)
        self._remove.clicked.connect(self._on_remove)
        self._name.clicked.connect(self._on_name)

    def show_clamp(self, shown: ClampShown) -> None:
        """Follow the session without echo."""
        self._shown = shown
        clamp, scale = shown.clamp, shown.scale
        units = clamp.value / scale.unit
        is_used = shown.is_open and clamp.mode != "ablate" and not clamp.is_muted
        self._slider.setEnabled(is_used)
        self._slider.show_value(scale, units)
        for widget in (self._slider, self._spin):
            widget.setToolTip(f"{shown.label}: {clamp.value:.3g} in {_units_text(shown)}")
        with QSignalBlocker(self._spin), QSignalBlocker(self._mode), QSignalBlocker(self._mute):
            self._spin.setSuffix(scale.suffix)
            if round(units, 2) != self._spin.value():
                self._spin.setValue(units)
            self._mode.setCurrentIndex(self._mode.findData(clamp.mode))
            self._mute.setChecked(clamp.is_muted)
        self._spin.setEnabled(is_used)
        self._mode.setToolTip(_MODE_TIPS[clamp.mode])
        self._name.show_name(shown.label)
        self._name.setToolTip(shown.facts if shown.is_open else f"{shown.facts}\n{_NOT_OPEN}")
        self._name.setAccessibleName(shown.label)
        self._dress()

    def _dress(self) -> None:
        theme, is_muted = current_theme(), self._shown.clamp.is_muted
        colour = theme.muted if is_muted or not self._shown.is_open else theme.steered
        self._mute.setIcon(icon("muted" if is_muted else "active", colour))
        self._mute.setToolTip(
            "Muted: has no effect." if is_muted else "In effect; click to mute."
        )
        self._remove.setIcon(icon("remove", theme.muted))
        metrics = self._spin.fontMetrics()
        self._spin.setFixedWidth(metrics.horizontalAdvance("-10.00 × present") + 14)

    def _on_units(self, units: float) -> None:
        self.value_requested.emit(self._feature, units * self._shown.scale.unit)

    def _on_typed(self, units: float) -> None:
        self._on_units(units)
        self.gesture_ended.emit()

    def _on_mode(self, row: int) -> None:
        self.mode_chosen.emit(self._feature, self._mode.itemData(row))

    def _on_mute(self, is_muted: bool) -> None:
        self.mute_chosen.emit(self._feature, is_muted)

    def _on_remove(self) -> None:
        self.removal_requested.emit(self._feature)

    def _on_name(self) -> None:
        self.feature_chosen.emit(self._feature)

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_remove"):
            self._dress()


def _units_text(shown: ClampShown) -> str:
    if shown.clamp.mode == "scale":
        return "multiples of the activation it has"
    known = "" if shown.scale.suffix else "; its maximum is not known"
    return f"activation units{known}"
