"""Imports labels in a process of its own, so that neither size nor damage stops the window."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from microscope.core.messages import LabelsImported, LabelsRefused
from microscope.workers.engine_command import engine_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from microscope.core.cards import SaeCard
    from microscope.core.messages import AnyEvent

_PREFIX = "microscope: "
"""What the command line puts before the sentence that says what is wrong."""


class LabelImporter:
    """Runs `labels import` of the command line and reports what came of it.

    `on_event` is called on a thread of the importer's.
    """

    def __init__(
        self, on_event: Callable[[AnyEvent], None], command: Sequence[str] | None = None
    ) -> None:
        self._on_event = on_event
        self._command = list(command or program_command())
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self._threads: list[threading.Thread] = []
        self._is_closing = False

    def import_labels(self, path: str, sae: SaeCard, store: str) -> None:
        """Begin an import into a store that calls the SAE by its site; returns at once."""
        arguments = ["labels", "import", "--sae", sae.site, "--store", store]
        arguments += ["--features", str(sae.n_features), "--json", "-", "--", path]
        thread = threading.Thread(
            target=self._run, args=(sae.name, arguments), name="label-import"
        )
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def close(self) -> None:
        """Stop what still runs; the stores stay as they were."""
        with self._lock:
            self._is_closing = True
            for process in self._processes:
                process.terminate()
        for thread in self._threads:
            thread.join()

    def _run(self, sae: str, arguments: list[str]) -> None:
        try:
            process = self._started(arguments)
        except OSError as error:
            self._refuse(sae, f"The import could not be started: {error}.")
            return
        if process is None:
            return
        output, complaints = process.communicate()
        with self._lock:
            self._processes.discard(process)
            if self._is_closing:
                return
        if process.returncode:
            self._refuse(sae, sentence_in(complaints))
        else:
            self._on_event(
                LabelsImported(run_id=0, sae=sae, summary=json.loads(output)["summary"])
            )

    def _started(self, arguments: list[str]) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._is_closing:
                return None
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=engine_environment() | {"PYTHONUTF8": "1"},
                encoding="utf-8",
                errors="replace",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                start_new_session=True,
            )
            self._processes.add(process)
            return process

    def _refuse(self, sae: str, summary: str) -> None:
        self._on_event(LabelsRefused(run_id=0, sae=sae, summary=summary))


def program_command() -> list[str]:
    """The command that starts this program."""
    frozen = getattr(sys, "frozen", False)
    return [sys.executable] if frozen else [sys.executable, "-m", "microscope"]


def sentence_in(complaints: str) -> str:
    """What the command said is wrong; its last words if it did not get to say it."""
    lines = complaints.strip().splitlines() or ["no reason given"]
    said = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    return said[-1] if said else f"The import of labels failed: {lines[-1]}"
