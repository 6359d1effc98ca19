"""The models on this computer as a panel: a double click opens one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QSize, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from microscope.session.library_view import MODEL_COLUMNS, folder_line, model_entries
from microscope.views.guard import guarded
from microscope.views.library_table import MODEL_SAMPLES, library_table
from microscope.views.library_table_model import LibraryTableModel
from microscope.views.notice import ElidedLabel, EmptyPage

if TYPE_CHECKING:
    from PySide6.QtGui import QShowEvent

    from microscope.session.library import Library

_LEFT_TO_THE_DIALOG = ("dtype", "on disk")


class LibraryPanel(QWidget):
    """Follows `library.contents`; downloads and details are the dialog's.

    `model_requested` carries a model's source. `opened` says that the panel is looked at, so
    that what it shows can be fresh.
    """

    model_requested = Signal(str)
    library_requested = Signal()
    opened = Signal()

    def __init__(self, library: Library, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._library = library
        self._line, self._search = ElidedLabel(role="hint"), QLineEdit()
        self._all = QPushButton("Whole library…")
        self._models = LibraryTableModel(MODEL_COLUMNS, self)
        self._table = library_table(self._models, "Models on this computer", MODEL_SAMPLES)
        self._none, self._pages = EmptyPage("Whole library…"), QStackedWidget()
        self._lay_out()
        self._connect()
        self._refresh()

    def _lay_out(self) -> None:
        self._search.setPlaceholderText("Search")
        self._search.setClearButtonEnabled(True)
        self._all.setToolTip("Starter picks, published SAEs, downloads, and what will fit.")
        self._none.say("No models here yet", "The library has starter picks to download.")
        self._table.setToolTip("Double-click a model, or press Enter, to open it.")
        self._table.setMinimumSize(QSize(260, 120))
        for column, title in enumerate(MODEL_COLUMNS):
            self._table.setColumnHidden(column, title in _LEFT_TO_THE_DIALOG)
        self._pages.addWidget(self._table)
        self._pages.addWidget(self._none)
        top = QHBoxLayout()
        top.addWidget(self._search, 1)
        top.addWidget(self._all)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.addLayout(top)
        layout.addWidget(self._pages, 1)
        layout.addWidget(self._line)

    def _connect(self) -> None:
        self._all.clicked.connect(self.library_requested)
        self._none.asked.connect(self.library_requested)
        self._search.textChanged.connect(self._refresh)
        self._table.activated.connect(self._on_activated)
        events = self._library.events
        for event in (events.contents, events.free, events.is_looking):
            event.connect(self._refresh)

    def _refresh(self) -> None:
        library = self._library
        self._line.say(folder_line(library))
        self._models.show_entries(model_entries(library, self._search.text()))
        has_none = not library.contents.models and not library.is_looking
        self._pages.setCurrentIndex(int(has_none))

    def _on_activated(self, index: QModelIndex) -> None:
        entry = self._models.entry(index.row())
        if entry.is_here and not entry.problem:
            self.model_requested.emit(entry.key)

    @guarded
    def showEvent(self, event: QShowEvent) -> None:
        """Ask for a fresh look at the disk."""
        super().showEvent(event)
        self.opened.emit()
