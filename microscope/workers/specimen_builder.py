"""Makes the stand-in specimen in a process of its own, when there is none to open."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, cast

from microscope.core.messages import EngineLost, Progress
from microscope.workers.engine_command import engine_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from microscope.core.messages import AnyEvent


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
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="specimen-builder")

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop the build if it still runs; a half-made specimen is not left behind."""
        self._is_closing = True
        if self._process:
            self._process.terminate()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=engine_environment(),
            start_new_session=True,
        )
        last_lines = [self._report(line) for line in cast("IO[bytes]", self._process.stdout)]
        code = self._process.wait()
        cast("IO[bytes]", self._process.stdout).close()
        if self._is_closing:
            return
        if code == 0:
            self._on_built()
        else:
            summary = "The specimen could not be made. Open a model folder instead."
            details = "".join(last_lines[-40:])
            self._on_event(
                EngineLost(run_id=0, summary=summary, details=details, will_restart=False)
            )

    def _report(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace")
        words, _, fraction = text.strip().rpartition(" ")
        done, _, total = fraction.partition("/")
        if words and done.isdecimal() and total.isdecimal():
            self._on_event(Progress(run_id=0, text=words, done=int(done), total=int(total)))
        return text
