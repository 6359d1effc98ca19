"""The rack: every feature that is held, a row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Qt, QTimer, Signal
from PySide6.QtWidgets import QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from microscope.session.derived import (
    clamp_scale,
    feature_facts,
    feature_label,
    largest_activation,
)
from microscope.views.clamp_row import ClampRow, ClampShown
from microscope.views.guard import guarded
from microscope.views.notice import EmptyPage, Notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.features import Clamp, FeatureId
    from microscope.session.session import Place, Session


class ClampsPanel(QWidget):
    """Shows `session.setup.clamps`; emits what the user asks of one of them."""

    value_requested = Signal(object, float)
    mode_chosen = Signal(object, str)
    mute_chosen = Signal(object, bool)
    removal_requested = Signal(object)
    feature_chosen = Signal(object)
    gesture_ended = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._rows: dict[FeatureId, ClampRow] = {}
        self._notice, self._pages, self._empty = Notice(), QStackedWidget(), EmptyPage()
        self._empty.say("Nothing is held yet", "Press + beside a feature, or double-click it.")
        self._lay_out()
        self._follow()

    def _lay_out(self) -> None:
        inside = QWidget()
        self._list = QVBoxLayout(inside)
        self._list.setContentsMargins(0, 0, 4, 0)
        self._list.setSpacing(6)
        self._list.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        self._scroll = scroll
        self._pages.addWidget(self._empty)
        self._pages.addWidget(scroll)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 6, 8)
        layout.addWidget(self._notice)
        layout.addWidget(self._pages, 1)

    def _follow(self) -> None:
        events = self._session.events
        events.setup.connect(self._show)
        events.pages.connect(self._show)
        events.features.connect(self._show)
        events.saes.connect(self._show)
        events.failures.connect(self._show_failures)
        self._show()
        self._show_failures(self._session.failures)

    def _show(self) -> None:
        clamps = self._session.setup.clamps
        wanted = {clamp.feature: clamp for clamp in clamps}
        for feature in [f for f in self._rows if f not in wanted]:
            row = self._rows.pop(feature)
            self._list.removeWidget(row)
            row.hide()
            row.deleteLater()
        for place, (feature, clamp) in enumerate(wanted.items()):
            shown = self._shown(clamp)
            if feature in self._rows:
                self._rows[feature].show_clamp(shown)
            else:
                self._rows[feature] = self._made(shown)
            self._put(self._rows[feature], place)
        self._pages.setCurrentIndex(int(bool(wanted)))
        self._fit()

    def _fit(self) -> None:
        """Be wide enough for the rows, which are not scrolled sideways."""
        rows = [row.minimumSizeHint().width() for row in self._rows.values()]
        self._scroll.setMinimumWidth(max(rows, default=0) + 18)

    def _put(self, row: ClampRow, place: int) -> None:
        if self._list.indexOf(row) != place:
            self._list.removeWidget(row)
            self._list.insertWidget(place, row)

    def _shown(self, clamp: Clamp) -> ClampShown:
        session, feature = self._session, clamp.feature
        seen = largest_activation(session.features, feature)
        return ClampShown(
            clamp,
            feature_label(feature, session.pages),
            feature_facts(feature, session.pages),
            clamp_scale(clamp, session.pages.get(feature), seen),
            is_open=any(sae.name == feature.sae for sae in session.saes),
        )

    def _made(self, shown: ClampShown) -> ClampRow:
        row = ClampRow(shown)
        row.value_requested.connect(self.value_requested)
        row.mode_chosen.connect(self.mode_chosen)
        row.mute_chosen.connect(self.mute_chosen)
        row.removal_requested.connect(self.removal_requested)
        row.feature_chosen.connect(self.feature_chosen)
        row.gesture_ended.connect(self.gesture_ended)
        return row

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_scroll"):
            QTimer.singleShot(0, self, self._fit)  # once the rows have followed, too

    def _show_failures(self, failures: Mapping[Place, str]) -> None:
        self._notice.say(failures.get("clamps", ""))
