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
    QObject,
    Qt,
    QTimer,
    QtMsgType,
    Signal,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication

from microscope.core.cards import SPECIMEN
from microscope.session.controller import Controller
from microscope.session.librarian import Librarian
from microscope.session.library import Library
from microscope.session.session import Session
from microscope.storage.preferences import UnsavedPreferences
from microscope.storage.releases import load_releases
from microscope.storage.shelf import has_specimen, specimen_folder
from microscope.views.bridge import GuiThreadBridge
from microscope.views.library_dialog import LibraryDialog
from microscope.views.library_panel import LibraryPanel
from microscope.views.main_window import MainWindow
from microscope.views.theme import apply_theme
from microscope.workers.engine_worker import EngineWorker
from microscope.workers.label_importer import LabelImporter
from microscope.workers.library_worker import LibraryWorker
from microscope.workers.specimen_builder import SpecimenBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from microscope.core.cards import ModelCard
    from microscope.session.setup import Setup
    from microscope.session.shelf import Shelf
    from microscope.storage.preferences import Preferences
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


class Announcer(QObject):
    """Says on the GUI thread what was said on any other."""

    heard = Signal()
    _said = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._said.connect(self.heard, Qt.ConnectionType.QueuedConnection)

    def say(self) -> None:
        """Safe to call from any thread."""
        self._said.emit()


class Microscope:
    """Session, controller, engine and window, joined. Needs a `QApplication`.

    `make_setup` says what to start with; it is asked again when there was no specimen yet and
    one has been made, since demonstrations and SAEs come with it.
    """

    def __init__(
        self,
        make_setup: Callable[[], Setup],
        shelf: Shelf,
        *,
        engine_command: Sequence[str] | None = None,
        layout: bytes | None = None,
        preferences: Preferences | None = None,
    ) -> None:
        self._make_setup = make_setup
        self._first_setup = make_setup()
        self.session = Session(setup=self._first_setup)
        self._builder: SpecimenBuilder | None = None
        self._built = Announcer()
        self._built.heard.connect(self._start_afresh)
        self.bridge = GuiThreadBridge()
        self.worker = EngineWorker(self.bridge.post, engine_command)
        self.importer = LabelImporter(self.bridge.post)
        self.controller = Controller(self.session, self.worker, shelf, self.importer)
        self.bridge.arrived.connect(self.controller.apply_all)
        self.window = MainWindow(self.session, self.controller, layout=layout)
        self.library = WindowLibrary(self, preferences or UnsavedPreferences())

    def start(self) -> None:
        """Start the engine; the window is usable before it is ready."""
        if self.session.setup.model == SPECIMEN and not has_specimen():
            self._builder = SpecimenBuilder(
                specimen_folder(), self.bridge.post, self._built.say
            )
            self._builder.start()
        else:
            self.worker.start()

    def _start_afresh(self) -> None:
        """The specimen has been made: start with what comes with it."""
        if self.session.setup == self._first_setup:  # else the user has begun already
            self.session.setup = self._make_setup()
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
        self._built.heard.disconnect(self._start_afresh)
        if self._builder:
            self._builder.close()
        self.importer.close()
        self.library.close()
        self.worker.close()
        self.window.close()
        self.window.deleteLater()


class WindowLibrary:
    """The library with its worker and its dialog, joined to a window."""

    def __init__(self, scope: Microscope, preferences: Preferences) -> None:
        self._scope = scope
        known = load_releases()
        self.library = Library(starters=known.starters, releases=known.releases)
        self._bridge = GuiThreadBridge()
        self.worker = LibraryWorker(self._bridge.post, known.releases)
        self.librarian = Librarian(self.library, self.worker, preferences, scope.controller)
        self._bridge.arrived.connect(self.librarian.apply_all)
        self._dialog: LibraryDialog | None = None
        scope.window.library_requested.connect(self.show)
        panel = LibraryPanel(self.library)
        panel.library_requested.connect(self.show)
        panel.model_requested.connect(self.librarian.open_model)
        panel.opened.connect(self.librarian.refresh)
        scope.window.add_panel("Library", "the models on this computer", panel)
        scope.session.events.model.connect(self._remember)

    def show(self) -> None:
        """Show the dialog, and look at the disk afresh."""
        if self._dialog is None:
            self._dialog = LibraryDialog(self.library, self.librarian, self._scope.window)
        self.librarian.refresh()
        self._dialog.show()
        self._dialog.raise_()

    def close(self) -> None:
        """End a download; nothing more is heard of it."""
        self._bridge.arrived.disconnect(self.librarian.apply_all)
        self.worker.close()

    def _remember(self, model: ModelCard | None) -> None:
        if model is not None:
            self.librarian.remember(self._scope.session.setup.model)


def _process_events() -> None:
    """Let Qt work for a moment without spinning."""
    loop = QEventLoop()
    QTimer.singleShot(10, loop.quit)
    loop.exec()
