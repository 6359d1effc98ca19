"""The SAE features that are on: at the chosen token, or anywhere in the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QEvent, QItemSelectionModel, QModelIndex, QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLineEdit,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from microscope.session.derived import (
    counted_tokens,
    empty_list_hint,
    engine_line,
    error_shares,
    matching,
    ranked_features,
    sae_label,
    site_label,
)
from microscope.views.error_meter import ErrorMeter
from microscope.views.features_table import FeaturesTable
from microscope.views.features_table_model import (
    HOLD,
    FeaturesTableModel,
)
from microscope.views.guard import guarded
from microscope.views.icons import icon
from microscope.views.notice import EmptyPage, Notice, label
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.cards import SaeCard
    from microscope.core.readings import FeatureReading
    from microscope.session.session import Cursor, Place, Session
    from microscope.session.setup import Setup

_ALL = ""


class FeaturesPanel(QWidget):
    """Shows `session.features`; emits which feature is chosen and which is to be held."""

    feature_chosen = Signal(object)
    clamp_requested = Signal(object)
    saes_requested = Signal()
    sae_closed = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._chosen_sae = _ALL  # by the user; one that is alone was not chosen
        self._scope, self._sae, self._close = QComboBox(), QComboBox(), QToolButton()
        self._filter, self._meter, self._notice = QLineEdit(), ErrorMeter(), Notice()
        self._nothing = label("", "sentence")  # why the list is empty
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._nothing.setWordWrap(True)
        self._model = FeaturesTableModel(self)
        self._table = FeaturesTable(self._model)
        self._empty, self._pages = EmptyPage("Open an SAE folder…"), QStackedWidget()
        self._explain()
        self._lay_out()
        self._connect()
        self._follow()

    def _explain(self) -> None:
        self._scope.addItems(["at this token", "in the whole prompt"])
        self._scope.setToolTip(
            "Whole prompt: each feature's strongest value, first token left out."
        )
        self._sae.setToolTip("Which SAE's features to list.")
        self._close.setToolTip("Close this SAE.")
        self._close.setProperty("role", "flat")
        self._filter.setPlaceholderText("Filter by label or number")
        self._filter.setClearButtonEnabled(True)
        self._dress()

    def _dress(self) -> None:
        self._close.setIcon(icon("remove", current_theme().muted))

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.addWidget(self._scope, 1)
        line.addWidget(self._sae, 1)
        line.addWidget(self._close)
        filled = QWidget()
        inside = QVBoxLayout(filled)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(5)
        inside.addLayout(line)
        inside.addWidget(self._filter)
        inside.addWidget(self._meter)
        inside.addWidget(self._nothing)
        inside.addWidget(self._table, 1)
        self._pages.addWidget(self._empty)
        self._pages.addWidget(filled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 8, 6)
        layout.addWidget(self._notice)
        layout.addWidget(self._pages, 1)

    def _connect(self) -> None:
        self._scope.currentIndexChanged.connect(self._refresh)
        self._sae.currentIndexChanged.connect(self._on_sae)
        self._filter.textChanged.connect(self._refresh)
        self._close.clicked.connect(self._on_closed)
        self._table.clicked.connect(self._on_clicked)
        self._table.doubleClicked.connect(self._on_double_clicked)
        self._table.entered_row.connect(self._on_entered)
        self._table.selectionModel().currentRowChanged.connect(self._on_row_changed)
        self._model.modelReset.connect(self._select_chosen)
        self._empty.asked.connect(self.saes_requested)

    def _follow(self) -> None:
        events = self._session.events
        events.features.connect(self._refresh)
        events.pages.connect(self._refresh)
        events.tokens.connect(self._refresh)
        events.cursor.connect(self._show_cursor)
        events.setup.connect(self._show_setup)
        events.saes.connect(self._show_saes)
        events.model.connect(self._refresh)
        events.engine.connect(self._show_page)
        events.failures.connect(self._show_failures)
        self._show_saes(self._session.saes)
        self._show_setup(self._session.setup)
        self._show_failures(self._session.failures)

    # -- what to show -------------------------------------------------------------------

    def _readings(self) -> Mapping[str, FeatureReading]:
        chosen = self._sae.currentData() or _ALL
        return {n: r for n, r in self._session.features.items() if chosen in (_ALL, n)}

    def _positions(self) -> np.ndarray:
        if self._scope.currentIndex() == 1:
            return counted_tokens(self._session.tokens)
        return np.array([self._session.cursor.token])

    def _refresh(self) -> None:
        session, readings, positions = self._session, self._readings(), self._positions()
        ranked = ranked_features(readings, positions)
        labels = {sae.name: site_label(sae.site) for sae in session.saes}
        shown = matching(ranked, self._filter.text(), session.pages)
        self._model.show_features(shown, session.pages, labels)
        why = empty_list_hint(len(ranked), len(shown), self._filter.text(), session.tokens)
        self._nothing.setText(why)
        self._nothing.setVisible(bool(why))
        self._meter.show_shares(error_shares(readings, positions))
        self._show_page()

    def _show_page(self) -> None:
        self._pages.setCurrentIndex(int(bool(self._session.saes)))
        if self._session.model is None:
            self._empty.say(
                "", "Features appear here once a model and an SAE are open.", has_button=False
            )
        elif self._session.engine.status != "ready":
            self._empty.say("One moment", engine_line(self._session.engine), has_button=False)
        else:
            self._empty.say(
                "No SAE is open",
                "A sparse autoencoder (SAE) splits the model's state into features with a "
                "meaning. Drop an SAE folder on the window, or:",
            )

    def _show_cursor(self, cursor: Cursor, old: Cursor) -> None:
        if cursor.token != old.token and self._scope.currentIndex() == 0:
            self._refresh()
        else:
            self._select_chosen()

    def _show_setup(self, setup: Setup) -> None:
        self._model.show_held(frozenset(clamp.feature for clamp in setup.clamps))

    def _show_saes(self, saes: tuple[SaeCard, ...]) -> None:
        with QSignalBlocker(self._sae):
            self._sae.clear()
            if len(saes) != 1:
                self._sae.addItem("all SAEs", _ALL)
            for sae in saes:
                self._sae.addItem(sae_label(sae, saes), sae.name)
                self._sae.setItemData(
                    self._sae.count() - 1,
                    f"{sae.name}\n{sae.architecture}, {sae.n_features} features",
                    Qt.ItemDataRole.ToolTipRole,
                )
            self._sae.setCurrentIndex(max(self._sae.findData(self._chosen_sae), 0))
        self._refresh()

    def _show_failures(self, failures: Mapping[Place, str]) -> None:
        self._notice.say(failures.get("saes", ""))

    def _select_chosen(self) -> None:
        row = self._model.row_of(self._session.cursor.feature)
        selection = self._table.selectionModel()
        self._close.setEnabled(bool(self._sae.currentData()))
        with QSignalBlocker(selection):  # the session already knows
            if row is None:
                selection.clear()
            else:
                flags = QItemSelectionModel.SelectionFlag
                selection.setCurrentIndex(
                    self._model.index(row, 0), flags.ClearAndSelect | flags.Rows
                )
        self._table.viewport().update()

    # -- what the user does -------------------------------------------------------------

    def _on_sae(self) -> None:
        self._chosen_sae = self._sae.currentData()
        self._refresh()

    def _on_clicked(self, index: QModelIndex) -> None:
        feature = self._model.feature(index.row())
        if index.column() == HOLD:
            self.clamp_requested.emit(feature)
        else:
            self.feature_chosen.emit(feature)

    def _on_row_changed(self, index: QModelIndex) -> None:
        if index.isValid() and self._table.hasFocus():  # moved by key
            feature = self._model.feature(index.row())
            if feature != self._session.cursor.feature:
                self.feature_chosen.emit(feature)

    def _on_double_clicked(self, index: QModelIndex) -> None:
        if index.column() != HOLD:
            self._on_entered(index.row())

    def _on_entered(self, row: int) -> None:
        self.clamp_requested.emit(self._model.feature(row))

    def _on_closed(self) -> None:
        self.sae_closed.emit(self._sae.currentData())

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_close"):
            self._dress()
