"""`microscope`: the window."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec

from microscope.cli.doctor_command import has_display
from microscope.cli.first_setup import first_setup
from microscope.core.errors import NoDisplay
from microscope.storage.settings import load_settings, save_settings
from microscope.storage.shelf import LocalShelf

if TYPE_CHECKING:
    import argparse

SIGNAL_CHECK_MS = 200


def run(options: argparse.Namespace) -> int:
    """Show the window and stay until it is closed."""
    if not has_display():
        raise NoDisplay(
            "There is no display to open a window on. 'microscope snapshot --out PNG' "
            "renders the window to a picture instead."
        )
    from PySide6.QtCore import QTimer

    from microscope.app import Microscope, application

    settings = load_settings()
    shelf = LocalShelf()
    setup = first_setup(shelf, options.model, options.saes, options.prompt)
    app = application(options.theme or settings.theme, settings.text_scale)
    scope = Microscope(setup, shelf, layout=settings.layout)
    try:
        scope.window.show()
        QTimer.singleShot(0, scope.start)  # the window is painted first
        # Qt's loop does not look at Python's signals by itself; a Ctrl+C ends the window.
        signal.signal(signal.SIGINT, lambda *_: app.quit())
        heartbeat = QTimer()
        heartbeat.timeout.connect(lambda: None)
        heartbeat.start(SIGNAL_CHECK_MS)
        code = app.exec()
        save_settings(msgspec.structs.replace(load_settings(), **scope.window.preferences()))
    finally:
        scope.close()
    return code
