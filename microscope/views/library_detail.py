"""More of one thing in the library: its facts, whether it fits, and what can be done."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from microscope.session.library_view import default_layers
from microscope.storage.fitting import in_words, title_of
from microscope.views.guard import guarded
from microscope.views.memory_bar import MemoryBar
from microscope.views.notice import EmptyPage, Notice, label
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.library import Verdict
    from microscope.session.library_view import Entry

OFFLINE_NOTE = "Working offline. To download it, take the tick from 'Work offline' above."
BUSY_NOTE = "One download at a time: this one can begin when the other is done."
_MARGIN = 14


class LibraryDetail(QWidget):
    """Shows an entry; emits its key with the dtype or the layers that were chosen."""

    starter_requested = Signal(str, str)
    model_requested = Signal(str, str)
    model_fetch_requested = Signal(str)
    saes_requested = Signal(str, tuple)
    saes_fetch_requested = Signal(str, tuple)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entry: Entry | None = None
        self._why = ""
        self._title, self._about = label("", "headline"), label("", "sentence")
        self._notice, self._facts, self._notes = Notice(), QLabel(), label("", "sentence")
        self._as, self._layers = QComboBox(), QComboBox()
        self._bar, self._sentence = MemoryBar(), label("")
        self._why_not = label("", "hint")
        self._smaller, self._action = QPushButton(), QPushButton()
        self._pages, self._empty = QStackedWidget(), EmptyPage()
        self._explain()
        self._lay_out()
        self._as.currentIndexChanged.connect(self._show_choice)
        self._layers.currentIndexChanged.connect(self._show_action)
        self._smaller.clicked.connect(self._on_smaller)
        self._action.clicked.connect(self._on_action)

    def _explain(self) -> None:
        for text in (
            self._title,
            self._about,
            self._notes,
            self._sentence,
            self._why_not,
            self._facts,
        ):
            text.setWordWrap(True)
        self._facts.setTextFormat(Qt.TextFormat.RichText)
        self._facts.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._as.setToolTip("How the weights are held: fewer bits take less memory.")
        self._layers.setToolTip("Which of the SAEs: one a layer.")
        self._as.setAccessibleName("Open as")
        self._layers.setAccessibleName("Layers")
        self._action.setProperty("role", "primary")
        self._empty.say("Nothing chosen", "Choose something on the left to see more of it.")

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(_MARGIN, 10, _MARGIN, 8)
        column.setSpacing(9)
        for widget in (self._title, self._about, self._notice, self._facts):
            column.addWidget(widget)
        column.addWidget(self._notes)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        filled = QWidget()
        layout = QVBoxLayout(filled)
        layout.setContentsMargins(0, 0, 0, _MARGIN)
        layout.setSpacing(8)
        layout.addWidget(scroll, 1)
        layout.addLayout(self._decision())
        self._pages.addWidget(self._empty)
        self._pages.addWidget(filled)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._pages)

    def _decision(self) -> QVBoxLayout:
        """The part that stays in sight: does it fit, how to open it, the button."""
        column = QVBoxLayout()
        column.setContentsMargins(_MARGIN, 0, _MARGIN, 0)
        column.addWidget(self._bar)
        column.addWidget(self._sentence)
        line = QHBoxLayout()
        line.addWidget(self._as)
        line.addWidget(self._layers)
        line.addWidget(self._smaller)
        line.addStretch(1)
        column.addLayout(line)
        column.addWidget(self._why_not)
        column.addWidget(self._action)
        return column

    # -- what to show -------------------------------------------------------------------

    def show_entry(
        self, entry: Entry | None, failures: Mapping[str, str], *, why_not: str = ""
    ) -> None:
        """Show an entry, or that none is chosen; `why_not` says why nothing can be fetched."""
        is_other = entry is None or self._entry is None or entry.key != self._entry.key
        self._entry, self._why = entry, why_not
        self._pages.setCurrentIndex(int(entry is not None))
        if entry is None:
            return
        self._title.setText(entry.title)
        self._about.setText(entry.about)
        self._about.setVisible(bool(entry.about))
        self._notice.say(failures.get(entry.job, "") or entry.problem)
        self._facts.setText(_facts_html(entry))
        self._notes.setText("\n\n".join(entry.notes))
        self._notes.setVisible(bool(entry.notes))
        self._fill_choices(entry, is_other=is_other)
        self._fill_layers(entry, is_other=is_other)
        self._show_choice()

    def _fill_choices(self, entry: Entry, *, is_other: bool) -> None:
        chosen = 0 if is_other else self._as.currentIndex()
        with QSignalBlocker(self._as):
            self._as.clear()
            for number, verdict in enumerate(entry.verdicts):
                usual = " (usual)" if number == 0 else ""
                self._as.addItem(f"{title_of(verdict.choice)}{usual}", verdict.choice)
            self._as.setCurrentIndex(min(max(chosen, 0), self._as.count() - 1))
        for widget in (self._as, self._bar, self._sentence):
            widget.setVisible(bool(entry.verdicts))

    def _fill_layers(self, entry: Entry, *, is_other: bool) -> None:
        chosen = default_layers(entry) if is_other and entry.layers else self._chosen_layers()
        with QSignalBlocker(self._layers):
            self._layers.clear()
            for text, layers in _layer_choices(entry):
                self._layers.addItem(text, layers)
            place = [layers for _, layers in _layer_choices(entry)]
            self._layers.setCurrentIndex(place.index(chosen) if chosen in place else 0)
        self._layers.setVisible(bool(entry.layers))

    def _show_choice(self) -> None:
        verdict = self._verdict()
        if verdict is not None:
            self._bar.show_verdict(verdict)
            self._sentence.setText(verdict.sentence)
        smaller = verdict.smaller[:1] if verdict and not verdict.fits else ()
        self._smaller.setVisible(bool(smaller))
        self._smaller.setText(f"Take {title_of(smaller[0])}" if smaller else "")
        self._show_action()

    def _show_action(self) -> None:
        entry = self._entry
        if entry is None:
            return
        is_here = self._is_here(entry)
        fetch = {"starter": "Download and open", "model": "Download again"}.get(entry.kind)
        self._action.setText("Open" if is_here else fetch or "Download")
        self._action.setVisible(is_here or entry.can_fetch)
        self._action.setEnabled(is_here or not self._why)
        self._why_not.setText(self._why)
        self._why_not.setVisible(bool(self._why) and not is_here and entry.can_fetch)

    def _is_here(self, entry: Entry) -> bool:
        if entry.kind != "release":
            return entry.is_here
        return set(self._chosen_layers()) <= set(entry.layers_here)

    def _verdict(self) -> Verdict | None:
        verdicts = self._entry.verdicts if self._entry else ()
        return verdicts[self._as.currentIndex()] if verdicts else None

    def _chosen_layers(self) -> tuple[int, ...]:
        return tuple(self._layers.currentData() or ())

    # -- what was asked -----------------------------------------------------------------

    def _on_smaller(self) -> None:
        verdict = self._verdict()
        if verdict and verdict.smaller:
            self._as.setCurrentIndex(self._as.findData(verdict.smaller[0]))

    def _on_action(self) -> None:
        entry = self._entry
        if entry is None:
            return
        # The first choice is the engine's own, which the device settles when it is opened.
        dtype = "auto" if self._as.currentIndex() <= 0 else str(self._as.currentData())
        is_here = self._is_here(entry)
        if entry.kind == "starter":
            self.starter_requested.emit(entry.key, dtype)
        elif entry.kind == "model" and is_here:
            self.model_requested.emit(entry.key, dtype)
        elif entry.kind == "model":
            self.model_fetch_requested.emit(entry.key)
        elif is_here:
            self.saes_requested.emit(entry.key, self._chosen_layers())
        else:
            self.saes_fetch_requested.emit(entry.key, self._chosen_layers())

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and getattr(self, "_entry", None):
            assert self._entry is not None
            self._facts.setText(_facts_html(self._entry))


def _facts_html(entry: Entry) -> str:
    muted = current_theme().colour("muted").name()
    rows = "".join(
        f'<tr><td style="color:{muted}; padding: 2px 12px 2px 0; white-space: nowrap">'
        f'{escape(name)}</td><td style="padding: 2px 0">{escape(value)}</td></tr>'
        for name, value in entry.facts
    )
    return f"<table>{rows}</table>"


def _layer_choices(entry: Entry) -> list[tuple[str, tuple[int, ...]]]:
    """Each layer, and all at once."""
    here = set(entry.layers_here)
    single: list[tuple[str, tuple[int, ...]]] = [
        (f"layer {layer}{', here' if layer in here else ''}", (layer,))
        for layer in entry.layers
    ]
    if len(entry.layers) < 2:
        return single
    size = f", {in_words(entry.size_bytes * len(entry.layers))}" if entry.size_bytes else ""
    return [*single, (f"all {len(entry.layers)} layers{size}", entry.layers)]
