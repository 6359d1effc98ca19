"""The settings on disk, kept in step with what the user changes in the window."""

from __future__ import annotations

import logging

import msgspec

from microscope.core.errors import UserError
from microscope.storage.settings import Settings, load_settings, save_settings

log = logging.getLogger(__name__)


class Preferences:
    """Reads the settings once; each change is written at once."""

    def __init__(self) -> None:
        self.settings: Settings = load_settings()

    def keep(self, **fields: object) -> None:
        """Replace some of the settings; what cannot be saved still holds until the end."""
        self.settings = msgspec.structs.replace(self.settings, **fields)
        try:
            save_settings(self.settings)
        except UserError:
            log.warning("the settings could not be saved", exc_info=True)


class UnsavedPreferences(Preferences):
    """The defaults, and what is changed of them until the end; nothing is read or written."""

    def __init__(self) -> None:
        self.settings = Settings()

    def keep(self, **fields: object) -> None:
        """Replace some of the settings."""
        self.settings = msgspec.structs.replace(self.settings, **fields)
