"""A starter model on a card: what it is, how large, and one button that gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from microscope.storage.fitting import in_words
from microscope.views.notice import ElidedLabel

if TYPE_CHECKING:
    from microscope.session.library_view import Entry


class StarterCard(QFrame):
    """Emits its entry's key: `chosen` to show more of it, `asked` to have and open it."""

    chosen = Signal(str)
    asked = Signal(str)

    def __init__(self, entry: Entry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._key = entry.key
        self.setProperty("role", "row")
        self._name, self._button = QPushButton(entry.title), QPushButton()
        self._name.setProperty("role", "name")
        self._name.setToolTip("Show more of it.")
        self._about, self._line = ElidedLabel(role="sentence"), ElidedLabel(role="hint")
        self._name.clicked.connect(self._on_chosen)
        self._button.clicked.connect(self._on_asked)
        words = QVBoxLayout()
        words.setSpacing(1)
        for widget in (self._name, self._about, self._line):
            words.addWidget(widget)
        for indented in (self._about, self._line):
            indented.setIndent(7)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(6, 6, 12, 8)
        layout.addLayout(words, 1)
        layout.addWidget(self._button)

    def show_entry(self, entry: Entry, *, can_fetch: bool, is_chosen: bool) -> None:
        """Follow what is here, and whether the network may be used."""
        self._about.say(entry.about)
        facts = dict(entry.facts)
        login = " · login needed" if entry.notes and not entry.is_here else ""
        size = in_words(entry.size_bytes or 0)
        self._line.say(
            f"{facts['Parameters']} parameters · {size} with SAEs{login} · {facts['Licence']}"
        )
        self._button.setText("Open" if entry.is_here else "Download and open")
        self._button.setEnabled(entry.is_here or can_fetch)
        self._mark(is_chosen=is_chosen)

    def _mark(self, *, is_chosen: bool) -> None:
        role = "chosen" if is_chosen else "row"
        if self.property("role") != role:
            self.setProperty("role", role)
            self.style().unpolish(self)
            self.style().polish(self)

    def _on_chosen(self) -> None:
        self.chosen.emit(self._key)

    def _on_asked(self) -> None:
        self.chosen.emit(self._key)
        self.asked.emit(self._key)
