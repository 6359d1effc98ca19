"""How the text is written: sampler settings, seed and length, in one compact line."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from microscope.core.prompts import Sampler
from microscope.views.flow_layout import FlowLayout
from microscope.views.guard import guarded
from microscope.views.icons import icon
from microscope.views.notice import label
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from microscope.session.setup import Setup

_DICE_FACES = 1_000_000
_LARGEST_EXACT = 2.0**53  # whole numbers that a double holds


class Setting(NamedTuple):
    """A field of `Sampler` as a spin box."""

    field: str
    title: str
    tip: str
    low: float
    high: float
    step: float
    decimals: int
    neutral: str = ""
    """What the lowest value is called."""


SETTINGS = (
    Setting(
        "temperature",
        "temperature",
        "Higher is more daring; 0 always takes the likeliest token (greedy).",
        0, 100, 0.1, 2, "greedy",
    ),
    Setting("top_k", "top-k", "Only the k likeliest tokens may be drawn.", 0, 1e7, 1, 0, "off"),
    Setting(
        "top_p",
        "top-p",
        "Only the likeliest tokens that together hold this probability; 1 is off.",
        0.01, 1, 0.05, 2,
    ),
    Setting(
        "min_p",
        "min-p",
        "Only tokens at least this share as likely as the likeliest.",
        0, 1, 0.01, 2, "off",
    ),
    Setting(
        "repetition_penalty",
        "repetition",
        "Above 1, tokens that are already there become less likely; 1 is off.",
        0.01, 100, 0.05, 2,
    ),
)  # fmt: skip


class SettingSpin(QDoubleSpinBox):
    """One setting; `changed` names the field."""

    changed = Signal(str, float)

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._field = setting.field
        self.setDecimals(setting.decimals)
        self.setRange(setting.low, setting.high)
        self.setSingleStep(setting.step)
        self.setSpecialValueText(setting.neutral)
        self.setToolTip(setting.tip)
        self.setAccessibleName(setting.title)
        self.setKeyboardTracking(False)
        self.lineEdit().setTextMargins(4, 0, 4, 0)
        self.valueChanged.connect(self._on_changed)

    def show_value(self, value: float) -> None:
        """Follow the session without echo."""
        with QSignalBlocker(self):
            self.setValue(value)

    def _on_changed(self, value: float) -> None:
        self.changed.emit(self._field, value)


class SamplerBar(QWidget):
    """Shows the sampler, seed and length of a setup; emits what the user changes."""

    sampler_changed = Signal(object)
    seed_changed = Signal(object)  # an int, which may be wider than a C++ int
    length_changed = Signal(int)
    regenerate_requested = Signal()
    stop_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sampler, self._is_writing = Sampler(), False
        self._spins = {setting.field: SettingSpin(setting) for setting in SETTINGS}
        self._seed = SettingSpin(
            Setting("seed", "seed", "Same seed, same draws.", 0, _LARGEST_EXACT, 1, 0)
        )
        self._length, self._dice, self._write = QSpinBox(), QToolButton(), QPushButton()
        self._explain()
        self._lay_out()
        self._connect()
        self.show_writing(False)

    def _explain(self) -> None:
        self._length.setRange(1, 100_000)
        self._length.setKeyboardTracking(False)
        self._length.lineEdit().setTextMargins(4, 0, 4, 0)
        self._length.setToolTip("How many tokens to write.")
        self._length.setAccessibleName("length")
        self._dice.setToolTip("Throw the dice: another seed.")
        self._dice.setAccessibleName("another seed")
        self._write.setProperty("role", "primary")

    def _lay_out(self) -> None:
        flow = FlowLayout(self)
        for setting in SETTINGS:
            flow.addWidget(_titled(setting.title, self._spins[setting.field]))
        seed = _titled("seed", self._seed, self._dice)
        flow.addWidget(seed)
        flow.addWidget(_titled("length", self._length))
        flow.addWidget(_titled(" ", self._write))
        self._dress()

    def _connect(self) -> None:
        for spin in self._spins.values():
            spin.changed.connect(self._on_setting)
        self._seed.changed.connect(self._on_seed)
        self._dice.clicked.connect(self._on_dice)
        self._length.valueChanged.connect(self.length_changed)
        self._write.clicked.connect(self._on_write)

    def show_setup(self, setup: Setup) -> None:
        """Follow the session without echo."""
        self._sampler = setup.sampler
        for field, spin in self._spins.items():
            spin.show_value(getattr(setup.sampler, field))
        self._seed.show_value(setup.seed)
        with QSignalBlocker(self._length):
            self._length.setValue(setup.max_new_tokens)

    def show_writing(self, is_writing: bool) -> None:
        """Offer to stop while the text is being written, else to write it again."""
        self._is_writing = is_writing
        self._write.setText("Stop" if is_writing else "Write again")
        self._dress()

    def _dress(self) -> None:
        theme = current_theme()
        self._write.setIcon(icon("stop" if self._is_writing else "write", theme.on_accent))
        self._dice.setIcon(icon("dice", theme.text))
        metrics = self.fontMetrics()
        for spin in (*self._spins.values(), self._length):
            spin.setFixedWidth(metrics.horizontalAdvance("greedy") + 18)
        self._seed.setFixedWidth(metrics.horizontalAdvance("888888") + 16)
        self._write.setFixedWidth(metrics.horizontalAdvance("Write again") + 54)

    def _on_setting(self, field: str, value: float) -> None:
        chosen = int(value) if field == "top_k" else value
        self.sampler_changed.emit(msgspec.structs.replace(self._sampler, **{field: chosen}))

    def _on_seed(self, _field: str, value: float) -> None:
        self.seed_changed.emit(int(value))

    def _on_dice(self) -> None:
        self.seed_changed.emit(secrets.randbelow(_DICE_FACES))

    def _on_write(self) -> None:
        if self._is_writing:
            self.stop_requested.emit()
        else:
            self.regenerate_requested.emit()

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_write"):
            self._dress()


def _titled(title: str, *widgets: QWidget) -> QWidget:
    """Widgets in a line under a small title."""
    box, line = QWidget(), QHBoxLayout()
    layout = QVBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(1)
    line.setSpacing(3)
    for widget in widgets:
        line.addWidget(widget)
    line.addStretch(1)
    layout.addWidget(label(title, "hint"), alignment=Qt.AlignmentFlag.AlignLeft)
    layout.addLayout(line)
    return box
