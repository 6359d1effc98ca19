"""The engine process, as seen from the window: start, send, listen, restart, close.

Two threads belong to each process: one writes requests, one reads events. Requests wait in
one slot a kind, so a burst of slider moves never fills the pipe. Events are handed over on
the reading thread.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, cast

from microscope.core.errors import ProtocolError, StreamCutOff
from microscope.core.frames import read_event, write_frame
from microscope.core.messages import (
    PROTOCOL_VERSION,
    SLOTS,
    EngineLost,
    EngineReady,
    RunFailed,
    RunFinished,
    Shutdown,
)
from microscope.workers.engine_command import engine_command, engine_environment
from microscope.workers.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from microscope.core.messages import AnyEvent, AnyRequest, Slot

log = logging.getLogger(__name__)

MAX_DEATHS_IN_A_ROW = 4
STDERR_LINES_KEPT = 40

NO_UNICODE = (
    "The prompt, or the path of a model or an SAE, has characters that are not valid Unicode. "
    "Type the text anew, or rename the folder."
)


class EngineWorker:
    """Keeps one engine process alive and speaks with it in `core` messages.

    A process that dies is reported as `EngineLost` and started again, unless it died
    `MAX_DEATHS_IN_A_ROW` times without finishing both a reading and a text between: then
    what is asked for is what ends it. `on_event` is called on a thread of the worker's.
    """

    def __init__(
        self, on_event: Callable[[AnyEvent], None], command: Sequence[str] | None = None
    ) -> None:
        self._on_event = on_event
        self._command = list(command or engine_command())
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._supervisor: threading.Thread | None = None
        self._deaths = 0
        self._is_closing = False
        self._asked: dict[Slot, int] = {}
        self._finished: set[Slot] = set()

    @property
    def pid(self) -> int | None:
        """The engine's process id while there is one."""
        connection = self._connection
        return connection.process.pid if connection else None

    def start(self) -> None:
        """Start the engine; `EngineReady` follows as an event."""
        self._deaths = 0
        self._supervisor = threading.Thread(target=self._supervise, name="engine-events")
        self._supervisor.start()

    def submit(self, request: AnyRequest) -> None:
        """Send a request when the pipe is free; it replaces a waiting one of its kind.

        Dropped while there is no engine: whoever hears `EngineReady` asks again.
        """
        with self._lock:
            if self._connection:
                self._asked[SLOTS.get(type(request), "model")] = request.run_id
                self._connection.outbox.put(request)

    def restart(self) -> None:
        """End the process, whatever it does, and start another."""
        self._deaths = 0
        with self._lock:
            connection = self._connection
        if connection:
            connection.process.kill()
        elif not (self._supervisor and self._supervisor.is_alive()):
            self.start()

    def close(self, timeout_s: float = 3.0) -> None:
        """Ask the engine to end, and end it if it does not."""
        self._is_closing = True
        with self._lock:
            connection = self._connection
        if connection:
            connection.end(timeout_s)
        if self._supervisor:
            self._supervisor.join(timeout_s)

    def _supervise(self) -> None:
        while not self._is_closing and self._deaths < MAX_DEATHS_IN_A_ROW:
            try:
                connection = _Connection(self._command, self._refuse)
            except OSError as error:
                self._report_loss(f"The engine process could not be started: {error}.", "")
                return
            with self._lock:
                self._connection = connection
                self._asked, self._finished = {}, set()
            if self._is_closing:  # closed while the process was being started
                connection.end(0.0)
            reason = self._listen(connection)
            with self._lock:
                self._connection = None
            tail = connection.wait()
            if not self._is_closing:
                self._deaths += 1
                self._report_loss(reason or _obituary(connection.process.returncode), tail)

    def _refuse(self, request: AnyRequest) -> None:
        self._on_event(RunFailed(run_id=request.run_id, summary=NO_UNICODE))

    def _report_loss(self, summary: str, details: str) -> None:
        will_restart = 0 < self._deaths < MAX_DEATHS_IN_A_ROW
        self._on_event(
            EngineLost(run_id=0, summary=summary, details=details, will_restart=will_restart)
        )

    def _listen(self, connection: _Connection) -> str:
        """Hand over events until the stream ends; what was wrong with it, if anything."""
        try:
            while (event := read_event(connection.events)) is not None:
                if isinstance(event, EngineReady) and event.protocol != PROTOCOL_VERSION:
                    raise ProtocolError(f"protocol {event.protocol}, not {PROTOCOL_VERSION}")
                if isinstance(event, RunFinished):
                    self._note_success(event)
                self._on_event(event)
        except StreamCutOff:  # it died while it spoke; its exit code says why
            log.info("the engine ended in the middle of an event")
        except ProtocolError as error:
            log.exception("the engine speaks nonsense")
            connection.process.kill()
            return f"The engine sent something unreadable ({error}) and was stopped."
        except (OSError, ValueError):
            log.exception("the pipe from the engine broke")
        return ""

    def _note_success(self, event: RunFinished) -> None:
        """Forgive earlier deaths once a reading and a text were finished."""
        with self._lock:
            self._finished |= {
                slot for slot, run_id in self._asked.items() if run_id == event.run_id
            }
            if {"read", "generate"} <= self._finished:
                self._deaths = 0


def _obituary(code: int) -> str:
    if code in (-9, 137):
        return (
            "The engine process was killed, most often because memory ran out. If it happens "
            "again, use a shorter prompt, fewer SAEs or a smaller model."
        )
    return f"The engine process ended unexpectedly (exit code {code})."


class _Connection:
    """One engine process with its pipes and the thread that writes to it."""

    def __init__(self, command: Sequence[str], refuse: Callable[[AnyRequest], None]) -> None:
        self._refuse = refuse
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=engine_environment(),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            # A Ctrl+C in the terminal is for the window; it ends the engine itself.
            start_new_session=True,
        )
        self.outbox = Outbox()
        self._stderr_tail: deque[str] = deque(maxlen=STDERR_LINES_KEPT)
        self._threads = [
            threading.Thread(target=self._write, name="engine-requests"),
            threading.Thread(target=self._drain_stderr, name="engine-stderr"),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def events(self) -> BinaryIO:
        """The stream of event frames."""
        return cast("BinaryIO", self.process.stdout)

    def end(self, timeout_s: float) -> None:
        """Ask, wait, and kill."""
        self.outbox.put(Shutdown(run_id=0))
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def wait(self) -> str:
        """Reap the process and join the threads; the last lines of its stderr."""
        self.outbox.close()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            _close_quietly(pipe)
        return "".join(self._stderr_tail)

    def _write(self) -> None:
        pipe = cast("BinaryIO", self.process.stdin)
        try:
            for request in self.outbox:
                self._send(pipe, request)
        except (OSError, ValueError):
            log.info("the engine no longer takes requests")

    def _send(self, pipe: BinaryIO, request: AnyRequest) -> None:
        try:
            write_frame(pipe, request)
        except UnicodeEncodeError:  # nothing of it was written; later requests are
            self._refuse(request)

    def _drain_stderr(self) -> None:
        for line in cast("IO[bytes]", self.process.stderr):
            text = line.decode("utf-8", "replace")
            self._stderr_tail.append(text)
            log.debug("engine: %s", text.rstrip())


def _close_quietly(pipe: IO[bytes] | None) -> None:
    """Close a pipe whose other end may be gone with data unsent."""
    if pipe is not None:
        try:
            pipe.close()
        except OSError:
            log.debug("a pipe to the engine was already broken")
