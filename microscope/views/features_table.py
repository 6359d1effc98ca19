"""The table that features are listed in: fixed row height, fast at any length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from microscope.views.activation_delegate import ActivationDelegate, HoldDelegate
from microscope.views.features_table_model import (
    ACTIVATION,
    HOLD,
    INDEX,
    LABEL,
    SAE,
    FeaturesTableModel,
)
from microscope.views.guard import guarded

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent, QResizeEvent


class FeaturesTable(QTableView):
    """A plain table of fixed row height; Enter emits `entered_row`."""

    entered_row = Signal(int)

    def __init__(self, model: FeaturesTableModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._width_with_index = 0
        self._sort = (ACTIVATION, Qt.SortOrder.DescendingOrder)
        self.setModel(model)
        self.setItemDelegateForColumn(ACTIVATION, ActivationDelegate(self))
        self.setItemDelegateForColumn(HOLD, HoldDelegate(self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setAccessibleName("Features")
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self._fit()
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSortIndicator(*self._sort)
        header.sortIndicatorChanged.connect(self._on_sort)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setSectionResizeMode(LABEL, QHeaderView.ResizeMode.Stretch)
        self.setSortingEnabled(True)

    def _fit(self) -> None:
        metrics = self.fontMetrics()
        self.verticalHeader().setDefaultSectionSize(metrics.height() + 11)
        widths = {ACTIVATION: "88.88  100 %", SAE: "layer", INDEX: "88888", HOLD: "+"}
        for column, sample in widths.items():
            self.setColumnWidth(column, metrics.horizontalAdvance(sample) + 20)
        self._width_with_index = 40 * metrics.averageCharWidth() + sum(
            metrics.horizontalAdvance(sample) + 20 for sample in widths.values()
        )

    def _on_sort(self, column: int, order: Qt.SortOrder) -> None:
        if column == HOLD:  # a column of buttons has no order
            self.horizontalHeader().setSortIndicator(*self._sort)
        else:
            self._sort = (column, order)

    @guarded
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave the number out where the label needs its room; the tooltip has it."""
        super().resizeEvent(event)
        self.setColumnHidden(INDEX, self.viewport().width() < self._width_with_index)

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._fit()

    @guarded
    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Act on the keys that mean something here."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self.currentIndex().isValid():
                self.entered_row.emit(self.currentIndex().row())
        else:
            super().keyPressEvent(event)
