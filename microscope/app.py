"""The composition root of the window: the one module that has met everyone, to join them."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import (
    QCoreApplication,
    QEventLoop,
    QMessageLogContext,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication

from microscope.core.cards import SPECIMEN
from microscope.session.controller import Controller
from microscope.session.session import Session
from microscope.storage.shelf import has_specimen, specimen_folder
from microscope.views.bridge import GuiThreadBridge
from microscope.views.main_window import MainWindow
from microscope.views.theme import apply_theme
from microscope.workers.engine_worker import EngineWorker
from microscope.workers.specimen_builder import SpecimenBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.session.setup import Setup
    from microscope.session.shelf import Shelf
    from microscope.views.theme import ThemeName

log = logging.getLogger(__name__)

SETTLE_S = 0.25


def _log_qt(kind: QtMsgType, _context: QMessageLogContext, message: str) -> None:
    """Qt's own words go where the program's go, not straight to the terminal."""
    is_grave = kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
    log.log(logging.ERROR if is_grave else logging.INFO, "Qt: %s", message)


def application(theme: ThemeName = "dark", text_scale: float = 1.0) -> QApplication:
    """The one `QApplication`, in the given look."""
    qInstallMessageHandler(_log_qt)
    app = cast("QApplication", QApplication.instance() or QApplication(sys.argv[:1]))
    QCoreApplication.setApplicationName("Microscope")
    apply_theme(app, theme, text_scale)
    return app


class Microscope:
    """Session, controller, engine and window, joined. Needs a `QApplication`."""

    def __init__(
        self,
        setup: Setup,
        shelf: Shelf,
        *,
        engine_command: Sequence[str] | None = None,
        layout: bytes | None = None,
    ) -> None:
        self.session = Session(setup=setup)
        self._builder: SpecimenBuilder | None = None
        self.bridge = GuiThreadBridge()
        self.worker = EngineWorker(self.bridge.post, engine_command)
        self.controller = Controller(self.session, self.worker, shelf)
        self.bridge.arrived.connect(self.controller.apply_all)
        self.window = MainWindow(self.session, self.controller, layout=layout)

    def start(self) -> None:
        """Start the engine; the window is usable before it is ready."""
        if self.session.setup.model == SPECIMEN and not has_specimen():
            self._builder = SpecimenBuilder(
                specimen_folder(), self.bridge.post, self.worker.start
            )
            self._builder.start()
        else:
            self.worker.start()

    @property
    def is_idle(self) -> bool:
        """Whether everything that was asked for is on screen, or has failed for good."""
        session = self.session
        return session.engine.status in ("ready", "lost") and not (
            session.is_reading or session.is_writing
        )

    def wait_until_idle(self, patience_s: float) -> None:
        """Let events in until the engine has nothing left to do, or patience ends."""
        deadline = monotonic() + patience_s
        while not self.is_idle and monotonic() < deadline:
            _process_events()

    def settle(self) -> None:
        """Let panels that wait a frame before they paint catch up."""
        deadline = monotonic() + SETTLE_S
        while monotonic() < deadline:
            _process_events()

    def close(self) -> None:
        """End the engine and the window, in that order."""
        # What the engine still says on its way out must not reach widgets that are gone.
        self.bridge.arrived.disconnect(self.controller.apply_all)
        if self._builder:
            self._builder.close()
        self.worker.close()
        self.window.close()
        self.window.deleteLater()


def _process_events() -> None:
    """Let Qt work for a moment without spinning."""
    loop = QEventLoop()
    QTimer.singleShot(10, loop.quit)
    loop.exec()
