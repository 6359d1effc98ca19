"""The composition root of the window: the one module that has met everyone, to join them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.session.controller import Controller
from microscope.session.session import Session
from microscope.views.bridge import GuiThreadBridge
from microscope.views.main_window import MainWindow
from microscope.workers.engine_worker import EngineWorker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.session.setup import Setup
    from microscope.session.shelf import Shelf


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
        self.bridge = GuiThreadBridge()
        self.worker = EngineWorker(self.bridge.post, engine_command)
        self.controller = Controller(self.session, self.worker, shelf)
        self.bridge.arrived.connect(self.controller.apply)
        self.window = MainWindow(self.session, self.controller, layout=layout)

    def start(self) -> None:
        """Start the engine; the window is usable before it is ready."""
        self.worker.start()

    def close(self) -> None:
        """End the engine and the window, in that order."""
        self.worker.close()
        self.window.close()
        self.window.deleteLater()
