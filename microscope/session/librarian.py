"""Carries out what the user asks of the library, and takes in what comes of it."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

import msgspec

from microscope.core.library import (
    DownloadAdvanced,
    DownloadCancelled,
    DownloadFailed,
    DownloadFinished,
    DownloadJob,
    DownloadStarted,
    LookedAround,
    Starter,
)
from microscope.session.library import DownloadState
from microscope.storage.releases import model_part, sae_job, starter_job
from microscope.storage.settings import with_recent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.core.library import (
        DownloadEvent,
        LibraryEvent,
        SaeRelease,
    )
    from microscope.session.library import Library
    from microscope.storage.settings import Settings


class LibraryDesk(Protocol):
    """Who does the slow things: a worker in the app, a recorder in tests."""

    def look(self, folders: tuple[str, ...], recent: tuple[str, ...]) -> None:
        """Look at the disk and the memory."""
        ...

    def fetch(self, job: DownloadJob) -> None:
        """Begin a download."""
        ...

    def cancel(self) -> None:
        """End the download."""
        ...


class Memo(Protocol):
    """Where the user's choices are remembered."""

    @property
    def settings(self) -> Settings:
        """The present ones."""
        ...

    def keep(self, **fields: object) -> None:
        """Replace some."""
        ...


class Opener(Protocol):
    """Who opens what the user chose."""

    def open_model(self, source: str, dtype: str = ..., saes: tuple[str, ...] = ...) -> None:
        """Open a model, with SAEs."""
        ...

    def open_saes(self, sources: tuple[str, ...]) -> None:
        """Open SAEs on the open model."""
        ...


class _Opening(msgspec.Struct, frozen=True):
    """What to open once a download is done."""

    starter: Starter
    dtype: str


class Librarian:
    """Every intention of the user's in the library is a method here."""

    def __init__(self, library: Library, desk: LibraryDesk, memo: Memo, opener: Opener) -> None:
        self._library, self._desk = library, desk
        self._memo, self._opener = memo, opener
        self._opening: _Opening | None = None
        library.is_offline = memo.settings.offline
        library.folders = memo.settings.library_folders

    # -- intentions ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the disk and the memory again."""
        settings = self._memo.settings
        self._library.is_looking = True
        self._desk.look(settings.library_folders, settings.recent_models)

    def set_offline(self, is_offline: bool) -> None:
        """Use the network, or not; a download that goes on is ended."""
        self._memo.keep(offline=is_offline)
        self._library.is_offline = is_offline
        if is_offline and self._library.download:
            self.cancel()

    def add_folder(self, folder: str) -> None:
        """Look for models in a folder too."""
        self._set_folders((*(f for f in self._library.folders if f != folder), folder))

    def remove_folder(self, folder: str) -> None:
        """Look there no longer; nothing on the disk is touched."""
        self._set_folders(tuple(f for f in self._library.folders if f != folder))

    def take_starter(self, name: str, dtype: str = "auto") -> None:
        """Open a starter model with its SAEs, after fetching what is missing of it."""
        starter = next(s for s in self._library.starters if s.name == name)
        if self.has_starter(starter):
            self._open_starter(_Opening(starter, dtype))
        elif self._fetch(starter_job(starter, self._release(starter.release))):
            self._opening = _Opening(starter, dtype)

    def fetch_model(self, source: str) -> None:
        """Fetch what is missing of a model, by its hub id."""
        self._fetch(DownloadJob(source, source, (model_part(source),)))

    def fetch_saes(self, name: str, layers: Sequence[int]) -> None:
        """Fetch SAEs of a release."""
        self._fetch(sae_job(self._release(name), layers))

    def open_saes(self, name: str, layers: Sequence[int]) -> None:
        """Open SAEs of a release that are here."""
        self._opener.open_saes(self._places(self._release(name), layers))

    def open_model(self, source: str, dtype: str = "auto") -> None:
        """Open a model that is here."""
        self._opener.open_model(source, dtype)

    def cancel(self) -> None:
        """End the download; what has come is kept."""
        self._desk.cancel()

    def remember(self, source: str) -> None:
        """A model was opened."""
        recent = with_recent(self._memo.settings.recent_models, source)
        if recent != self._memo.settings.recent_models:
            self._memo.keep(recent_models=recent)

    def has_starter(self, starter: Starter) -> bool:
        """Whether the model and all its SAEs are here."""
        contents = self._library.contents
        here = contents.saes.get(starter.release, ())
        return contents.model(starter.model) is not None and set(starter.layers) <= set(here)

    # -- reports -------------------------------------------------------------------------

    def apply_all(self, events: Sequence[LibraryEvent]) -> None:
        """Take events into the library."""
        for event in events:
            if isinstance(event, LookedAround):
                self._library.contents, self._library.free = event.contents, event.free
                self._library.is_looking = False
            else:
                self._advance(event.key, event.event)

    def _advance(self, key: str, event: DownloadEvent) -> None:
        download = self._library.download
        match event:
            case DownloadStarted(total=total, done=done) if download:
                self._library.download = msgspec.structs.replace(
                    download, total=total, done=done
                )
            case DownloadAdvanced(done=done, total=total, file=file) if download:
                self._library.download = msgspec.structs.replace(
                    download, total=total, done=done, file=file
                )
            case DownloadFinished(folders=folders):
                self._finish(folders)
            case DownloadFailed(summary=summary):
                self._library.failures = {**self._library.failures, key: summary}
                self._end()
            case DownloadCancelled():
                self._end()

    def _finish(self, folders: tuple[str, ...]) -> None:
        opening = self._opening
        self._end()
        if opening:
            release = self._release(opening.starter.release)
            places = _places_in(folders[-1], release, opening.starter.layers)
            self._opener.open_model(opening.starter.model, opening.dtype, places)

    def _end(self) -> None:
        self._library.download = self._opening = None
        self.refresh()

    # -- steps ---------------------------------------------------------------------------

    def _fetch(self, job: DownloadJob) -> bool:
        library = self._library
        if library.is_offline or library.download:
            return False
        kept = {key: text for key, text in library.failures.items() if key != job.key}
        library.failures = kept
        library.download = DownloadState(job.key, job.title)
        self._desk.fetch(job)
        return True

    def _open_starter(self, opening: _Opening) -> None:
        starter = opening.starter
        places = self._places(self._release(starter.release), starter.layers)
        self._opener.open_model(starter.model, opening.dtype, places)

    def _set_folders(self, folders: tuple[str, ...]) -> None:
        self._memo.keep(library_folders=folders)
        self._library.folders = folders
        self.refresh()

    def _release(self, name: str) -> SaeRelease:
        return next(release for release in self._library.releases if release.name == name)

    def _places(self, release: SaeRelease, layers: Sequence[int]) -> tuple[str, ...]:
        folder = self._library.contents.folders[release.repository]
        return _places_in(folder, release, layers)


def _places_in(folder: str, release: SaeRelease, layers: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(PurePath(folder) / release.path_of(layer)) for layer in layers)
