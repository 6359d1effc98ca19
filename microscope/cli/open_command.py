"""`microscope`: the window."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

from microscope.cli.doctor_command import has_display
from microscope.cli.first_setup import first_setup
from microscope.core.errors import NoDisplay
from microscope.storage.preferences import Preferences
from microscope.storage.shelf import LocalShelf

if TYPE_CHECKING:
    import argparse

SIGNAL_CHECK_MS = 200


class WindowPreferences(Preferences):
    """The settings on disk, kept in step with the window's look and layout."""

    def keep_look(self, theme: str, text_scale: float) -> None:
        """The user chose another theme or text size."""
        self.keep(theme=theme, text_scale=text_scale)

    def keep_layout(self, layout: bytes) -> None:
        """The window closes with its panels placed like this."""
        self.keep(layout=layout)


def run(options: argparse.Namespace) -> int:
    """Show the window and stay until it is closed."""
    if not has_display():
        raise NoDisplay(
            "There is no display to open a window on. 'microscope snapshot --out PNG' "
            "renders the window to a picture instead."
        )
    from PySide6.QtCore import QTimer

    from microscope.app import Microscope, application

    preferences = WindowPreferences()
    settings = preferences.settings
    shelf = LocalShelf()
    make_setup = partial(first_setup, shelf, options.model, options.saes, options.prompt)
    app = application(options.theme or settings.theme, settings.text_scale)
    scope = Microscope(make_setup, shelf, layout=settings.layout, preferences=preferences)
    scope.window.theme_changed.connect(preferences.keep_look)
    scope.window.layout_changed.connect(preferences.keep_layout)
    try:
        scope.window.show()
        QTimer.singleShot(0, scope.start)  # the window is painted first
        # Qt's loop does not look at Python's signals by itself; a Ctrl+C ends the window.
        # The window goes first: at quitting, detached panels would be closed before it, and
        # be missing from the layout that it keeps.
        signal.signal(signal.SIGINT, lambda *_: (scope.window.close(), app.quit()))
        heartbeat = QTimer()
        heartbeat.timeout.connect(lambda: None)
        heartbeat.start(SIGNAL_CHECK_MS)
        return app.exec()
    finally:
        scope.close()
