"""The feature list as rows and columns, read straight from numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt

from microscope.session.derived import (
    RankedFeatures,
    SortKey,
    feature_facts,
    feature_label,
    in_order,
    share_of_maximum,
)
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PySide6.QtCore import QObject

    from microscope.core.features import FeatureId
    from microscope.core.pages import FeaturePage

AnyIndex = QModelIndex | QPersistentModelIndex
Role = Qt.ItemDataRole

LABEL, ACTIVATION, SAE, INDEX, HOLD = range(5)
_SORT_KEYS: tuple[SortKey, ...] = ("label", "activation", "sae", "index")
_HEADERS = ("feature", "activation", "layer", "no.", "")
_HEADER_TIPS = (
    "What the feature is thought to stand for; its number where nobody has said.",
    "How strongly it is on; the bar is its share of the largest value known, or of this list.",
    "The layer whose output the SAE reads.",
    "The feature's number in its SAE.",
    "Hold this feature at a value; a dot marks those that are held.",
)


class ActivationCell(NamedTuple):
    """What the bar column draws; `share` is None where the maximum is not known."""

    value: float
    share: float | None
    share_of_list: float


class FeaturesTableModel(QAbstractTableModel):
    """Keeps its own order; a sort or a new list is one reset."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._ranked = RankedFeatures(
            (), np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
        )
        self._pages: Mapping[FeatureId, FeaturePage] = {}
        self._sae_labels: Mapping[str, str] = {}
        self._held: frozenset[FeatureId] = frozenset()
        self._largest = 0.0
        self._sort: tuple[SortKey, bool] = ("activation", True)

    def show_features(
        self,
        ranked: RankedFeatures,
        pages: Mapping[FeatureId, FeaturePage],
        sae_labels: Mapping[str, str],
    ) -> None:
        """Replace the rows; they take the order last asked for."""
        self.beginResetModel()
        self._pages, self._sae_labels = pages, sae_labels
        self._largest = float(np.max(ranked.activation, initial=0))
        self._ranked = in_order(ranked, *self._sort, pages)
        self.endResetModel()

    def show_held(self, held: frozenset[FeatureId]) -> None:
        """Mark the features that are on the rack."""
        self._held = held
        if len(self._ranked):
            corners = self.index(0, HOLD), self.index(len(self._ranked) - 1, HOLD)
            self.dataChanged.emit(*corners, [Role.DisplayRole])

    def feature(self, row: int) -> FeatureId:
        """The feature in a row."""
        return self._ranked.feature(row)

    def row_of(self, feature: FeatureId | None) -> int | None:
        """Where the feature stands, if it does."""
        return self._ranked.row_of(feature)

    def activation(self, row: int) -> ActivationCell:
        """What the bar column draws in a row."""
        value = float(self._ranked.activation[row])
        share = share_of_maximum(value, self._pages.get(self.feature(row)))
        return ActivationCell(value, share, value / self._largest if self._largest else 0.0)

    def is_held(self, row: int) -> bool:
        """Whether the feature in a row is on the rack."""
        return self.feature(row) in self._held

    @guarded_else(0)
    def rowCount(self, parent: AnyIndex = QModelIndex()) -> int:  # noqa: B008  # as in Qt
        """How many features are listed."""
        return 0 if parent.isValid() else len(self._ranked)

    @guarded_else(0)
    def columnCount(self, parent: AnyIndex = QModelIndex()) -> int:  # noqa: B008  # as in Qt
        """How many columns there are."""
        return 0 if parent.isValid() else len(_HEADERS)

    @guarded
    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Role.DisplayRole
    ) -> Any:
        """A column's name and explanation."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Role.ToolTipRole:
            return _HEADER_TIPS[section]
        if role == Role.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return _HEADERS[section] if role == Role.DisplayRole else None

    @guarded
    def data(self, index: AnyIndex, role: int = Role.DisplayRole) -> Any:
        """A cell's text, colour, alignment and tooltip."""
        row, column = index.row(), index.column()
        if role == Role.DisplayRole:
            return self._text(row, column)
        if role == Role.ToolTipRole:
            if column == HOLD:
                return _HEADER_TIPS[HOLD]
            return feature_facts(self.feature(row), self._pages)
        if role == Role.ForegroundRole and column != LABEL:
            return current_theme().colour("muted")
        return None

    def _text(self, row: int, column: int) -> str:
        feature = self.feature(row)
        if column == LABEL:
            return feature_label(feature, self._pages)
        if column == ACTIVATION:
            return f"{self._ranked.activation[row]:.2f}"
        if column == SAE:
            return self._sae_labels.get(feature.sae, feature.sae)
        if column == INDEX:
            return str(feature.index)
        return "held" if feature in self._held else "hold"

    @guarded
    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Order the rows by a column."""
        if not 0 <= column < len(_SORT_KEYS):
            return
        self._sort = _SORT_KEYS[column], order == Qt.SortOrder.DescendingOrder
        self.beginResetModel()
        self._ranked = in_order(self._ranked, *self._sort, self._pages)
        self.endResetModel()
