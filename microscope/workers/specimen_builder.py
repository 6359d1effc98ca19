"""Makes the stand-in specimen in a process of its own, when there is none to open."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, cast

from microscope.core.messages import EngineLost, Progress
from microscope.workers.engine_command import engine_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from microscope.core.messages import AnyEvent

LINES_KEPT = 40
_PROGRESS = re.compile(r"(?P<words>.+) (?P<percent>\d{1,3}) %\s*$")


class SpecimenBuilder:
    """Runs the build, reports its progress, and calls `on_built` when the folder is there.

    Both callbacks are called on a thread of the builder's.
    """

    def __init__(
        self,
        folder: Path,
        on_event: Callable[[AnyEvent], None],
        on_built: Callable[[], None],
        command: Sequence[str] | None = None,
    ) -> None:
        self._command = list(
            command
            or (sys.executable, "-m", "microscope.specimen", "build", "--folder", str(folder))
        )
        self._on_event, self._on_built = on_event, on_built
        self._process: subprocess.Popen[str] | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,  # a progress line that is written anew ends in a carriage return
            encoding="utf-8",
            errors="replace",
            env=engine_environment(),
            start_new_session=True,
        )
        self._thread = threading.Thread(
            target=self._listen, args=(self._process,), name="specimen-builder"
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the build if it still runs; a half-made specimen is not left behind."""
        self._is_closing = True
        if self._process and self._thread:
            self._process.terminate()
            self._thread.join()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        with process:
            lines = cast("IO[str]", process.stdout)
            last_lines = deque((self._report(line) for line in lines), maxlen=LINES_KEPT)
        if self._is_closing:
            return
        if process.returncode == 0:
            self._on_built()
        else:
            summary = "The specimen could not be made. Open a model folder instead."
            details = "".join(last_lines)
            self._on_event(
                EngineLost(run_id=0, summary=summary, details=details, will_restart=False)
            )

    def _report(self, line: str) -> str:
        match = _PROGRESS.match(line)
        if match:
            done = int(match["percent"])
            self._on_event(Progress(run_id=0, text=match["words"], done=done, total=100))
        return line
