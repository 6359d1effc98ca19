"""The library: starter models, what is on this computer, and published SAEs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSignalBlocker
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QDialog,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPushButton,
    QScrollArea,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from microscope.session.library_view import (
    MODEL_COLUMNS,
    RELEASE_COLUMNS,
    folder_line,
    model_entries,
    release_entries,
    starter_entries,
)
from microscope.views.dialogs import ask_folder
from microscope.views.download_strip import DownloadStrip
from microscope.views.library_detail import BUSY_NOTE, OFFLINE_NOTE, LibraryDetail
from microscope.views.library_table import MODEL_SAMPLES, RELEASE_SAMPLES, library_table
from microscope.views.library_table_model import LibraryTableModel
from microscope.views.notice import ElidedLabel, EmptyPage
from microscope.views.starter_card import StarterCard

if TYPE_CHECKING:
    from PySide6.QtCore import QModelIndex

    from microscope.session.library import Library
    from microscope.session.library_view import Entry
    from microscope.views.library_intentions import LibraryIntentions

STARTERS, MODELS, RELEASES = range(3)
_TABS = ("Starter picks", "On this computer", "Published SAEs")


class LibraryDialog(QDialog):
    """Shows the library; what the user asks goes to the intentions."""

    def __init__(
        self, library: Library, asked: LibraryIntentions, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._library, self._asked = library, asked
        self._chosen: dict[int, str] = {}  # the key of what is chosen, by page
        self.setWindowTitle("Library")
        self._offline, self._line = QCheckBox("Work offline"), ElidedLabel(role="hint")
        self._again, self._folders = QPushButton("Look again"), QPushButton("Folders")
        self._menu, self._search = QMenu(self), QLineEdit()
        self._tabs, self._pages = QButtonGroup(self), QStackedWidget()
        self._cards: dict[str, StarterCard] = {}
        self._models = LibraryTableModel(MODEL_COLUMNS, self)
        self._releases = LibraryTableModel(RELEASE_COLUMNS, self)
        self._model_table = library_table(self._models, "Models", MODEL_SAMPLES)
        self._release_table = library_table(self._releases, "Published SAEs", RELEASE_SAMPLES)
        self._no_models = EmptyPage("Add a folder of models…")
        self._detail, self._strip = LibraryDetail(), DownloadStrip()
        self._explain()
        self._lay_out()
        self._connect()
        self._follow()
        self.resize(1180, 760)

    def _explain(self) -> None:
        self._offline.setToolTip("Nothing is downloaded; what is here can be opened.")
        self._again.setToolTip("Look at the disk and at the free memory again.")
        self._folders.setToolTip("Where to look for models besides the Hugging Face cache.")
        self._folders.setMenu(self._menu)
        self._search.setPlaceholderText("Search")
        self._search.setClearButtonEnabled(True)
        self._search.setMaximumWidth(300)
        self._no_models.say(
            "No models here yet",
            "Take one of the starter picks, or add a folder in which you keep models.",
        )

    def _lay_out(self) -> None:
        top, tabs = QHBoxLayout(), QHBoxLayout()
        for widget in (self._line, self._folders, self._again, self._offline):
            top.addWidget(widget, int(widget is self._line))
        for number, title in enumerate(_TABS):
            button = QPushButton(title)
            button.setCheckable(True)
            button.setAutoDefault(False)
            button.setProperty("role", "tab")
            self._tabs.addButton(button, number)
            tabs.addWidget(button)
        tabs.addStretch(1)
        tabs.addWidget(self._search, 2)
        self._model_stack = QStackedWidget()
        self._model_stack.addWidget(self._model_table)
        self._model_stack.addWidget(self._no_models)
        for page in (self._starter_page(), self._model_stack, self._release_table):
            self._pages.addWidget(page)
        split = QSplitter()
        split.setChildrenCollapsible(False)
        split.addWidget(_carded(self._pages))
        split.addWidget(_carded(self._detail))
        split.setSizes([740, 420])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 12)
        layout.setSpacing(10)
        layout.addLayout(top)
        layout.addLayout(tabs)
        layout.addWidget(split, 1)
        layout.addWidget(self._strip)
        self._again.setAutoDefault(False)
        self._folders.setAutoDefault(False)

    def _starter_page(self) -> QWidget:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(10, 10, 10, 10)
        column.setSpacing(8)
        for entry in starter_entries(self._library):
            card = self._cards[entry.key] = StarterCard(entry)
            card.chosen.connect(self._on_card)
            card.asked.connect(self._on_starter)
            column.addWidget(card)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(inside)
        return scroll

    def _connect(self) -> None:
        asked, detail = self._asked, self._detail
        self._offline.toggled.connect(asked.set_offline)
        self._again.clicked.connect(self._on_again)
        self._tabs.idClicked.connect(self._on_tab)
        self._search.textChanged.connect(self._refresh)
        self._no_models.asked.connect(self._on_add_folder)
        self._strip.cancelled.connect(asked.cancel)
        for table in (self._model_table, self._release_table):
            table.selectionModel().currentRowChanged.connect(self._on_row)
            table.doubleClicked.connect(self._on_double_clicked)
        detail.starter_requested.connect(self._on_starter)
        detail.model_requested.connect(self._on_model)
        detail.model_fetch_requested.connect(asked.fetch_model)
        detail.saes_requested.connect(self._on_saes)
        detail.saes_fetch_requested.connect(asked.fetch_saes)

    def _follow(self) -> None:
        events = self._library.events
        for event in (events.contents, events.free, events.is_looking, events.failures):
            event.connect(self._refresh)
        events.is_offline.connect(self._show_offline)
        events.download.connect(self._show_download)
        events.folders.connect(self._show_folders)
        self._show_page(STARTERS)
        self._show_folders()
        self._show_offline()
        self._show_download()
        self._tabs.button(STARTERS).setFocus()

    # -- what to show -------------------------------------------------------------------

    def _refresh(self) -> None:
        library, words = self._library, self._search.text()
        self._line.say(folder_line(library))
        self._models.show_entries(model_entries(library, words))
        self._releases.show_entries(release_entries(library, words))
        has_none = not library.contents.models and not library.is_looking
        self._model_stack.setCurrentIndex(int(has_none))
        self._select_again()
        self._show_detail()

    def _select_again(self) -> None:
        """A reset takes the selection away; put it back where it was."""
        for page, table in ((MODELS, self._model_table), (RELEASES, self._release_table)):
            model = table.model()
            assert isinstance(model, LibraryTableModel)
            row = model.row_of(self._chosen.get(page, ""))
            with QSignalBlocker(table.selectionModel()):
                if row is not None:
                    table.selectRow(row)
                else:
                    table.clearSelection()

    def _show_detail(self) -> None:
        page, why_not = self._pages.currentIndex(), self._why_not()
        entry = self._entry(page, self._chosen.get(page, ""))
        self._detail.show_entry(entry, self._library.failures, why_not=why_not)
        for starter in starter_entries(self._library):
            is_chosen = self._chosen.get(STARTERS) == starter.key
            self._cards[starter.key].show_entry(
                starter, can_fetch=not why_not, is_chosen=is_chosen
            )

    def _entry(self, page: int, key: str) -> Entry | None:
        if page == STARTERS:
            entries = starter_entries(self._library)
            return next((entry for entry in entries if entry.key == key), None)
        model = self._models if page == MODELS else self._releases
        row = model.row_of(key)
        return None if row is None else model.entry(row)

    def _why_not(self) -> str:
        """Why nothing can be downloaded now; empty where something can."""
        if self._library.is_offline:
            return OFFLINE_NOTE
        return BUSY_NOTE if self._library.download else ""

    def _show_offline(self) -> None:
        with QSignalBlocker(self._offline):
            self._offline.setChecked(self._library.is_offline)
        self._refresh()

    def _show_download(self) -> None:
        self._strip.show_download(self._library.download)
        self._show_detail()

    def _show_folders(self) -> None:
        self._menu.clear()
        self._menu.addAction("Add a folder…", self._on_add_folder)
        for folder in self._library.folders:
            action = self._menu.addAction(f"Look no longer in {folder}")
            action.setData(folder)
            action.triggered.connect(self._on_remove_folder)
        self._refresh()

    def _show_page(self, page: int) -> None:
        self._tabs.button(page).setChecked(True)
        self._pages.setCurrentIndex(page)
        self._search.setVisible(page != STARTERS)
        if page == STARTERS and STARTERS not in self._chosen:
            self._chosen[STARTERS] = next(iter(self._cards), "")

    # -- what was asked -----------------------------------------------------------------

    def _on_tab(self, page: int) -> None:
        self._show_page(page)
        self._show_detail()

    def _on_card(self, key: str) -> None:
        self._chosen[STARTERS] = key
        self._show_detail()

    def _on_row(self, current: QModelIndex, _before: QModelIndex) -> None:
        if current.isValid():
            page = self._pages.currentIndex()
            model = self._models if page == MODELS else self._releases
            self._chosen[page] = model.entry(current.row()).key
            self._show_detail()

    def _on_double_clicked(self, index: QModelIndex) -> None:
        if self._pages.currentIndex() == MODELS and self._models.entry(index.row()).is_here:
            self._on_model(self._models.entry(index.row()).key, "auto")

    # What is opened is seen in the window, so the dialog makes way for it.

    def _on_starter(self, name: str, dtype: str = "auto") -> None:
        entry = self._entry(STARTERS, name)
        self._asked.take_starter(name, dtype)
        if entry is not None and entry.is_here:
            self.accept()

    def _on_model(self, source: str, dtype: str) -> None:
        self._asked.open_model(source, dtype)
        self.accept()

    def _on_saes(self, name: str, layers: tuple[int, ...]) -> None:
        self._asked.open_saes(name, layers)
        self.accept()

    def _on_again(self) -> None:
        self._asked.refresh()

    def _on_add_folder(self) -> None:
        folder = ask_folder(self, "Look for models in a folder")
        if folder:
            self._asked.add_folder(folder)

    def _on_remove_folder(self) -> None:
        action = self.sender()
        self._asked.remove_folder(action.data())  # type: ignore[attr-defined]


def _carded(inside: QWidget) -> QFrame:
    card = QFrame()
    card.setProperty("role", "panel")
    layout = QVBoxLayout(card)
    layout.setContentsMargins(1, 1, 1, 1)
    layout.addWidget(inside)
    return card
