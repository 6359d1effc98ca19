"""What the library shows: what is here, what can be had, and a download that goes on.

Each field is replaced, never mutated; written on the GUI thread only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import msgspec
from psygnal import SignalGroupDescriptor

from microscope.core.library import FreeMemory, LibraryContents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.library import SaeRelease, Starter


class DownloadState(msgspec.Struct, frozen=True):
    """How far a download is; a `total` of 0 is not known yet."""

    key: str
    title: str
    done: int = 0
    total: int = 0
    file: str = ""


@dataclass
class Library:
    """Panels connect to `library.events.<field>`; `failures` are by the key of a job."""

    starters: tuple[Starter, ...] = ()
    releases: tuple[SaeRelease, ...] = ()
    contents: LibraryContents = field(default_factory=LibraryContents)
    free: FreeMemory = field(default_factory=FreeMemory)
    folders: tuple[str, ...] = ()
    is_looking: bool = False
    is_offline: bool = True
    download: DownloadState | None = None
    failures: Mapping[str, str] = field(default_factory=dict)

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    def release(self, name: str) -> SaeRelease | None:
        """The release of a name."""
        return next((release for release in self.releases if release.name == name), None)
