"""The download process: a job as JSON on stdin, events as JSON lines on stdout.

A process of its own, so that a cancel is an end of the process and nothing waits for the
network but this. Started as `python -m microscope.storage.download`.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from microscope.core.errors import UserError
from microscope.core.library import (
    DownloadAdvanced,
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    DownloadJob,
    DownloadStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

log = logging.getLogger(__name__)

SECONDS_BETWEEN_EVENTS = 0.1


def main(stdin: BinaryIO | None = None, stdout: BinaryIO | None = None) -> int:
    """Carry out the job; 0 if all is here, else 1 after a `failed` event."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    lines = stdout or os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # a library's print must not come between the lines

    def emit(event: DownloadEvent) -> None:
        lines.write(msgspec.json.encode(event) + b"\n")
        lines.flush()

    job = msgspec.json.decode((stdin or sys.stdin.buffer).read(), type=DownloadJob)
    try:
        folders = download(job, emit)
    except Exception as error:
        log.exception("the download of %s stopped", job.key)
        emit(DownloadFailed(sentence_of(error, job)))
        return 1
    emit(DownloadFinished(folders))
    return 0


def download(job: DownloadJob, emit: Callable[[DownloadEvent], None]) -> tuple[str, ...]:
    """Fetch all parts; their folders.

    Raises:
        DownloadStopped: the disk is too small, or a repository is not as it should be.
        Exception: whatever the hub's client raises.
    """
    from microscope.storage import hub_files

    listed = [hub_files.list_files(part) for part in job.parts]
    files = [file for part in listed for file in part]
    hub_files.check_room(files)
    total = sum(file.size_bytes for file in files)
    meter = _Meter(total, emit)
    meter.done = sum(file.size_bytes for file in files if file.is_here)
    emit(DownloadStarted(total, meter.done))
    for file in files:
        if file.size_bytes >= hub_files.LARGE_BYTES and not file.is_here:
            meter.file = file.name
            hub_files.fetch(file, meter.advance)
            meter.tell()
    return tuple(hub_files.make_snapshot(part) for part in job.parts)


class _Meter:
    """Counts bytes, and tells of them a few times a second."""

    def __init__(self, total: int, emit: Callable[[DownloadEvent], None]) -> None:
        self.done, self.file = 0, ""
        self._total, self._emit = total, emit
        self._told_at = 0.0

    def advance(self, n_bytes: int) -> None:
        """So many more bytes are here."""
        self.done += n_bytes
        if time.monotonic() - self._told_at >= SECONDS_BETWEEN_EVENTS:
            self.tell()

    def tell(self) -> None:
        """Tell how far it is."""
        self._told_at = time.monotonic()
        self._emit(DownloadAdvanced(self.done, self._total, self.file))


def sentence_of(error: BaseException, job: DownloadJob) -> str:
    """What went wrong, and what to do, for whatever the hub's client raises."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full. Make room and start again; what has come is kept."
    names = [part.repository for part in job.parts]
    where = next((name for name in names if name in str(error)), " and ".join(names))
    said = _hub_sentence(error, where)
    return said or f"The download of {job.title} stopped: {_first_words(error)}."


def _hub_sentence(error: BaseException, where: str) -> str:
    from huggingface_hub import errors

    # The client wraps what it met when it looks for the files on this computer instead.
    wrapped = isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__
    cause = wrapped or error
    login = (
        f"{where}: its owner asks for a login. Accept its conditions on its page on the hub, "
        "run 'hf auth login' once in a terminal, and start again."
    )
    sentences: dict[type[BaseException], str] = {
        errors.GatedRepoError: login,
        errors.RepositoryNotFoundError: f"{where} was not found on the hub. Check the name; "
        "if it is private, run 'hf auth login' once in a terminal.",
        errors.EntryNotFoundError: f"{where} no longer has a file that it listed. Start again.",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, so nothing can be downloaded. "
        "Unset it and start the program again.",
        errors.HfHubHTTPError: login
        if _status(cause) in (401, 403)
        else f"The hub answered with an error ({_status(cause)}). Try again later; what has "
        "come is kept.",
        network_error(): "The hub cannot be reached. Check the connection and start again; "
        "what has come is kept.",
    }
    return next((text for kind, text in sentences.items() if isinstance(cause, kind)), "")


def network_error() -> type[BaseException]:
    """What the client's own HTTP library raises; which library depends on its version."""
    from huggingface_hub import errors

    return errors.HTTPError  # type: ignore[attr-defined]


def _status(error: BaseException) -> int:
    return getattr(getattr(error, "response", None), "status_code", 0)


def _first_words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


if __name__ == "__main__":
    sys.exit(main())
