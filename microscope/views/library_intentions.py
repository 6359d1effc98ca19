"""The interface that the library's dialog needs of whoever carries out what the user asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class LibraryIntentions(Protocol):
    """What the dialog needs of whoever carries out what the user asks."""

    def refresh(self) -> None:
        """Look at the disk again."""

    def set_offline(self, is_offline: bool) -> None:
        """Use the network or not."""

    def add_folder(self, folder: str) -> None:
        """Look for models there too."""

    def remove_folder(self, folder: str) -> None:
        """Look there no longer."""

    def take_starter(self, name: str, dtype: str = ...) -> None:
        """Have a starter, and open it."""

    def open_model(self, source: str, dtype: str = ...) -> None:
        """Open a model that is here."""

    def fetch_model(self, source: str) -> None:
        """Download what is missing of a model."""

    def open_saes(self, name: str, layers: Sequence[int]) -> None:
        """Open SAEs that are here."""

    def fetch_saes(self, name: str, layers: Sequence[int]) -> None:
        """Download SAEs."""

    def cancel(self) -> None:
        """End the download."""
