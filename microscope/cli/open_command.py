"""`microscope`: the window."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

import msgspec

from microscope.cli.doctor_command import has_display
from microscope.cli.first_setup import first_setup
from microscope.core.errors import NoDisplay, UserError
from microscope.storage.settings import Settings, load_settings, save_settings
from microscope.storage.shelf import LocalShelf

if TYPE_CHECKING:
    import argparse

log = logging.getLogger(__name__)

SIGNAL_CHECK_MS = 200


class Preferences:
    """The settings on disk, kept in step with the window's look and layout."""

    def __init__(self) -> None:
        self.settings: Settings = load_settings()

    def keep_look(self, theme: str, text_scale: float) -> None:
        """The user chose another theme or text size."""
        self._keep(theme=theme, text_scale=text_scale)

    def keep_layout(self, layout: bytes) -> None:
        """The window closes with its panels placed like this."""
        self._keep(layout=layout)

    def _keep(self, **fields: object) -> None:
        self.settings = msgspec.structs.replace(self.settings, **fields)
        try:
            save_settings(self.settings)
        except UserError:
            log.warning("the settings could not be saved", exc_info=True)


def run(options: argparse.Namespace) -> int:
    """Show the window and stay until it is closed."""
    if not has_display():
        raise NoDisplay(
            "There is no display to open a window on. 'microscope snapshot --out PNG' "
            "renders the window to a picture instead."
        )
    from PySide6.QtCore import QTimer

    from microscope.app import Microscope, application

    preferences = Preferences()
    settings = preferences.settings
    shelf = LocalShelf()
    setup = first_setup(shelf, options.model, options.saes, options.prompt)
    app = application(options.theme or settings.theme, settings.text_scale)
    scope = Microscope(setup, shelf, layout=settings.layout)
    scope.window.theme_changed.connect(preferences.keep_look)
    scope.window.layout_changed.connect(preferences.keep_layout)
    try:
        scope.window.show()
        QTimer.singleShot(0, scope.start)  # the window is painted first
        # Qt's loop does not look at Python's signals by itself; a Ctrl+C ends the window.
        signal.signal(signal.SIGINT, lambda *_: app.quit())
        heartbeat = QTimer()
        heartbeat.timeout.connect(lambda: None)
        heartbeat.start(SIGNAL_CHECK_MS)
        return app.exec()
    finally:
        scope.close()
