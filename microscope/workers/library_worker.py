"""Looks at the disk on a thread, and downloads in a process, for the library."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from microscope.core.library import DownloadReport, LibraryContents, LookedAround
from microscope.storage.free_memory import free_memory
from microscope.storage.library import look
from microscope.workers.download_worker import DownloadWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from microscope.core.library import (
        DownloadEvent,
        DownloadJob,
        LibraryEvent,
        SaeRelease,
    )

log = logging.getLogger(__name__)


class LibraryWorker:
    """Everything slow that the library needs; `on_event` is called on threads of its own."""

    def __init__(
        self,
        on_event: Callable[[LibraryEvent], None],
        releases: Sequence[SaeRelease] = (),
        download_command: Sequence[str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._releases = releases
        self._downloads = DownloadWorker(self._report, download_command)
        self._looks: list[threading.Thread] = []

    def look(self, folders: tuple[str, ...], recent: tuple[str, ...]) -> None:
        """Look around; `LookedAround` follows."""
        self._looks = [thread for thread in self._looks if thread.is_alive()]
        thread = threading.Thread(target=self._look, args=(folders, recent), name="library")
        self._looks.append(thread)
        thread.start()

    def fetch(self, job: DownloadJob) -> None:
        """Begin a download; `DownloadReport`s follow."""
        self._downloads.start(job)

    def cancel(self) -> None:
        """End the download; what has come is kept."""
        self._downloads.cancel()

    def close(self) -> None:
        """End the download and wait for the looks."""
        self._downloads.close()
        for thread in self._looks:
            thread.join()

    def _look(self, folders: tuple[str, ...], recent: tuple[str, ...]) -> None:
        try:
            contents = look(folders, recent, self._releases)
        except OSError as error:
            log.warning("the disk could not be searched", exc_info=True)
            contents = LibraryContents(remarks=(f"The disk could not be searched: {error}.",))
        self._on_event(LookedAround(contents, free_memory()))

    def _report(self, key: str, event: DownloadEvent) -> None:
        self._on_event(DownloadReport(key, event))
