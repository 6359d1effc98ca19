"""One download at a time, in a process of its own that can be ended at any moment."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, cast

import msgspec

from microscope.core.library import (
    DownloadCancelled,
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    DownloadJob,
)
from microscope.workers.engine_command import engine_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

STDERR_LINES_KEPT = 20


class DownloadWorker:
    """Runs a job and hands on its events; the last is finished, failed or cancelled.

    `on_event` gets the job's key and the event, on a thread of the worker's.
    """

    def __init__(
        self,
        on_event: Callable[[str, DownloadEvent], None],
        command: Sequence[str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._command = list(command or download_command())
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._is_busy = self._is_cancelled = False

    @property
    def is_running(self) -> bool:
        """Whether a download goes on."""
        return self._is_busy

    def start(self, job: DownloadJob) -> None:
        """Begin; nothing happens before another job's last event."""
        if self._is_busy:
            return
        self._is_busy, self._is_cancelled = True, False
        self._thread = threading.Thread(target=self._run, args=(job,), name="download")
        self._thread.start()

    def cancel(self) -> None:
        """End the process; what it has fetched is kept for the next time."""
        with self._lock:
            self._is_cancelled = True
            if self._process:
                self._process.terminate()

    def close(self) -> None:
        """Cancel, and wait for the end."""
        self.cancel()
        if self._thread:
            self._thread.join()

    def _run(self, job: DownloadJob) -> None:
        try:
            last = self._outcome(job, self._begin(job))
        except OSError as error:
            log.exception("the download process cannot be started")
            last = DownloadFailed(f"The download cannot start: {error}.")
        self._is_busy = False  # whoever hears that it is over may begin another
        self._on_event(job.key, last)

    def _outcome(self, job: DownloadJob, process: subprocess.Popen[bytes]) -> DownloadEvent:
        """Hand on what the process reports, until it has ended; its last word, kept back."""
        last = None
        tail: deque[bytes] = deque(maxlen=STDERR_LINES_KEPT)
        reader = threading.Thread(
            target=lambda: tail.extend(cast("IO[bytes]", process.stderr)),
            name="download-errors",
        )
        reader.start()
        for line in cast("IO[bytes]", process.stdout):
            last = self._hand_on(job, line) or last
        reader.join()
        code = process.wait()
        for pipe in (process.stdout, process.stderr):
            cast("IO[bytes]", pipe).close()
        with self._lock:
            self._process = None
        return last or self._obituary(code, tail)

    def _begin(self, job: DownloadJob) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=download_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            start_new_session=True,
        )
        with self._lock:
            self._process = process
            if self._is_cancelled:  # while the process was being started
                process.terminate()
        try:
            with cast("IO[bytes]", process.stdin) as stdin:
                stdin.write(msgspec.json.encode(job))
        except BrokenPipeError:
            log.info("the download process was gone before it began")
        return process

    def _hand_on(self, job: DownloadJob, line: bytes) -> DownloadEvent | None:
        """Pass an event on; one that ends the job is returned instead."""
        try:
            event: DownloadEvent = msgspec.json.decode(line, type=DownloadEvent)
        except msgspec.MsgspecError:
            log.warning("the download process said %r", line[:200])
            return None
        if isinstance(event, DownloadFinished | DownloadFailed):
            return event
        self._on_event(job.key, event)
        return None

    def _obituary(self, code: int, tail: deque[bytes]) -> DownloadEvent:
        if self._is_cancelled:
            return DownloadCancelled()
        log.warning("download: %s", b"".join(tail).decode("utf-8", "replace"))
        return DownloadFailed(
            f"The download process ended unexpectedly (exit code {code}). Start it again; "
            "what has come is kept."
        )


def download_command() -> list[str]:
    """The download process's command: in a frozen app the engine's executable has it."""
    if getattr(sys, "frozen", False):
        return [*engine_command(), "download"]
    return [sys.executable, "-m", "microscope.storage.download"]


def download_environment() -> dict[str, str]:
    """Our environment, with no telemetry and plain HTTP, which goes on at the byte."""
    return {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
