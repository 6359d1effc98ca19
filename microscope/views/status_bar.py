"""One line about the state of things: engine, model, SAEs, exactness, speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QStatusBar,
    QWidget,
)

from microscope.session.badge import badge
from microscope.session.derived import engine_line, model_line
from microscope.views.guard import guarded
from microscope.views.notice import ElidedLabel
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QMouseEvent

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.session.session import EngineState, Session

_NEWS_MS = 8_000
_BADGE_PX = 480
_AWAY = ("starting", "lost")  # no engine, so nothing is open in one
_DOTS = {"ready": "good", "starting": "accent", "loading": "accent", "lost": "bad"}


class BadgeLabel(ElidedLabel):
    """A line that can be clicked."""

    clicked = Signal()

    @guarded
    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Report the click."""
        super().mouseReleaseEvent(event)
        if self.rect().contains(event.position().toPoint()):
            self.clicked.emit()


class StatusBar(QStatusBar):
    """Shows the engine and what is open; offers to restart an engine that is gone."""

    restart_requested = Signal()
    checkup_requested = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._dot, self._engine = QLabel(), ElidedLabel()
        self._model, self._saes = QLabel(), QLabel()
        self._exact_dot, self._exact, self._speed = QLabel(), BadgeLabel(), QLabel()
        self._exact.setMinimumWidth(70)
        self._exact.setMaximumWidth(_BADGE_PX)  # a long reason leaves room for the rest
        self._exact.clicked.connect(self._on_badge)
        self._exact.setCursor(Qt.CursorShape.PointingHandCursor)
        self._progress, self._restart = QProgressBar(), QPushButton("Restart the engine")
        self._progress.setTextVisible(False)
        self._progress.setFixedSize(120, 8)
        self._restart.clicked.connect(self._on_restart)
        self._speed.setToolTip("Tokens written in a second, lately.")
        self.setSizeGripEnabled(False)
        self._lay_out()
        self._follow()

    def _lay_out(self) -> None:
        line = QWidget()
        layout = QHBoxLayout(line)
        layout.setContentsMargins(8, 0, 10, 0)
        layout.setSpacing(8)
        for widget in (self._dot, self._engine, self._progress, self._restart):
            layout.addWidget(widget)
        layout.addStretch(1)
        for label in (self._model, self._saes):
            layout.addWidget(label)
            layout.addSpacing(16)
        for label in (self._exact_dot, self._exact, self._speed):
            layout.addWidget(label)
        self.addWidget(line, 1)

    def _follow(self) -> None:
        session, events = self._session, self._session.events
        events.engine.connect(self._show_engine)
        events.model.connect(self._show_model)
        events.saes.connect(self._show_saes)
        events.tokens_per_second.connect(self._show_speed)
        events.checkup.connect(self._show_badge)
        events.is_checking_up.connect(self._show_badge)
        events.failures.connect(self._show_badge)
        events.news.connect(self._show_news)
        self._show_engine(session.engine)
        self._show_model(session.model)
        self._show_saes(session.saes)
        self._show_speed(session.tokens_per_second)

    def _show_engine(self, engine: EngineState) -> None:
        self._dot.setText(_dot(_DOTS[engine.status]))
        self._engine.say(engine_line(engine))
        self._progress.setVisible(engine.status in ("starting", "loading"))
        self._progress.setRange(0, engine.total)  # 0 to 0 is Qt's "no end known"
        self._progress.setValue(engine.done)
        self._restart.setVisible(engine.status == "lost")
        self._show_facts()

    def _show_facts(self) -> None:
        """What is said of an open model holds only while an engine has it open."""
        self._model.setVisible(self._session.engine.status not in _AWAY)
        self._saes.setVisible(self._has_model())
        self._show_badge()
        self._show_speed(self._session.tokens_per_second)

    def _has_model(self) -> bool:
        session = self._session
        return session.model is not None and session.engine.status not in _AWAY

    def _show_model(self, model: ModelCard | None) -> None:
        self._model.setText(model_line(model))
        self._model.setToolTip(model.source if model else "")
        self._show_facts()

    def _show_badge(self) -> None:
        session = self._session
        shown = badge(
            session.model,
            session.checkup,
            is_checking=session.is_checking_up,
            failure=session.failures.get("checkup", ""),
        )
        for label in (self._exact_dot, self._exact):
            label.setVisible(bool(shown.line) and self._has_model())
        self._exact_dot.setText(_dot(shown.colour))
        self._exact_dot.setToolTip(shown.tip)
        self._exact.say(shown.line)

    def _show_news(self, news: str) -> None:
        self.showMessage(news, _NEWS_MS)

    def _show_saes(self, saes: tuple[SaeCard, ...]) -> None:
        self._saes.setText(f"{len(saes)} SAE{'' if len(saes) == 1 else 's'} open")
        self._saes.setToolTip(
            "\n".join(f"{sae.name}: {sae.n_features} features" for sae in saes)
        )

    def _show_speed(self, tokens_per_second: float) -> None:
        self._speed.setVisible(self._has_model() and tokens_per_second > 0)
        self._speed.setText(f"{tokens_per_second:.0f} tokens/s")

    def refresh(self) -> None:
        """Take the colours of a theme that has just been applied."""
        self._show_engine(self._session.engine)
        self._show_model(self._session.model)

    def _on_badge(self) -> None:
        self.checkup_requested.emit()

    def _on_restart(self) -> None:
        self.restart_requested.emit()


def _dot(role: str) -> str:
    return f'<span style="color:{current_theme().colour(role).name()}">●</span>'
