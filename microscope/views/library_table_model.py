"""Models or SAE releases as rows; a column of text each, and a tooltip with what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt

from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtCore import QObject

    from microscope.session.library_view import Entry

AnyIndex = QModelIndex | QPersistentModelIndex
Role = Qt.ItemDataRole


class LibraryTableModel(QAbstractTableModel):
    """Shows entries in the order they come in."""

    def __init__(self, headers: tuple[str, ...], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.headers = headers
        self._entries: tuple[Entry, ...] = ()

    def show_entries(self, entries: tuple[Entry, ...]) -> None:
        """Replace the rows."""
        if entries != self._entries:
            self.beginResetModel()
            self._entries = entries
            self.endResetModel()

    def entry(self, row: int) -> Entry:
        """What stands in a row."""
        return self._entries[row]

    def row_of(self, key: str) -> int | None:
        """Where an entry stands, if it does."""
        found = (row for row, entry in enumerate(self._entries) if entry.key == key)
        return next(found, None)

    @guarded_else(0)
    def rowCount(self, parent: AnyIndex = QModelIndex()) -> int:  # noqa: B008  # as in Qt
        """How many entries are listed."""
        return 0 if parent.isValid() else len(self._entries)

    @guarded_else(0)
    def columnCount(self, parent: AnyIndex = QModelIndex()) -> int:  # noqa: B008  # as in Qt
        """How many columns there are."""
        return 0 if parent.isValid() else len(self.headers)

    @guarded
    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Role.DisplayRole
    ) -> Any:
        """A column's name."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Role.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return self.headers[section] if role == Role.DisplayRole else None

    @guarded
    def data(self, index: AnyIndex, role: int = Role.DisplayRole) -> Any:
        """A cell's text, colour and tooltip."""
        entry, column = self._entries[index.row()], index.column()
        if role == Role.DisplayRole:
            return entry.columns[column]
        if role == Role.ToolTipRole:
            return entry.problem or entry.title
        if role == Role.ForegroundRole:
            return _colour(entry, column)
        return None


def _colour(entry: Entry, column: int) -> object:
    if entry.problem:
        return current_theme().colour("bad" if column else "muted")
    return current_theme().colour("muted") if column else None
