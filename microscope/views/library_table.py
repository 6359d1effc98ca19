"""The tables of the library: rows of fixed height, the first column takes the room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView

if TYPE_CHECKING:
    from microscope.views.library_table_model import LibraryTableModel

MODEL_SAMPLES = ("888 million", "bfloat16", "888 MB", "too large")
RELEASE_SAMPLES = ("openai-community/gpt2", "hook_resid_post", "1,048,576", "88", "88")
"""The widest usual text of every column but the first."""


def library_table(model: LibraryTableModel, name: str, samples: tuple[str, ...]) -> QTableView:
    """A table of entries with room for the `samples` in its columns."""
    table = QTableView()
    table.setModel(model)
    table.setAccessibleName(name)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.setTabKeyNavigation(False)
    table.verticalHeader().hide()
    table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
    table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 11)
    header = table.horizontalHeader()
    header.setHighlightSections(False)
    header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    for column, (sample, title) in enumerate(zip(samples, model.headers[1:], strict=True), 1):
        widest = max((sample, title), key=len)
        table.setColumnWidth(column, table.fontMetrics().horizontalAdvance(widest) + 20)
    table.setMinimumSize(QSize(360, 200))
    return table
