"""Runs requests one step at a time and reports; knows the protocol, not the model.

Each request becomes a generator of events. The newest request of a kind closes the one
before it; reading and writing take turns, so neither waits for the other to end.
"""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING, Protocol

from microscope.core.errors import ProtocolError, UserError
from microscope.core.frames import read_request, write_frame
from microscope.core.messages import (
    Cancel,
    EngineReady,
    OpenModel,
    RunFailed,
    RunFinished,
)
from microscope.engine.inbox import ORDER, Inbox, slot_of
from microscope.engine.interrupting import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import BinaryIO

    from microscope.core.messages import AnyEvent, AnyRequest, Slot

log = logging.getLogger(__name__)

EXCLUSIVE: tuple[Slot, ...] = ("model", "saes")
PATIENT: tuple[Slot, ...] = ("checkup",)


class Engine(Protocol):
    """What the server needs of an engine."""

    def handle(self, request: AnyRequest) -> Generator[AnyEvent]:
        """The events of a request; each `next` does a bounded piece of work."""
        ...

    def hello(self) -> EngineReady:
        """What is here: versions and devices."""
        ...

    def heed(self, should_stop: Callable[[], bool]) -> None:
        """While writing, ask this often, and raise `Interrupted` when it says yes."""
        ...


class Jobs:
    """The runs in hand, at most one a slot."""

    def __init__(self, engine: Engine, send: Callable[[AnyEvent], None]) -> None:
        self._engine = engine
        self._send = send
        self._running: dict[Slot, tuple[int, Generator[AnyEvent]]] = {}

    def __bool__(self) -> bool:
        return bool(self._running)

    def start(self, request: AnyRequest) -> None:
        """Begin a request in place of the one in its slot, and of those that it outdates."""
        for slot in outdated_by(request):
            self._drop(slot)
        if not isinstance(request, Cancel):
            self._running[slot_of(request)] = (request.run_id, self._engine.handle(request))

    def advance(self) -> None:
        """One step of the run that the others wait for, or else one step of each.

        A check-up moves on only while nothing else does.
        """
        running = [slot for slot in ORDER if slot in self._running]
        first = next((slot for slot in EXCLUSIVE if slot in running), None)
        busy = [slot for slot in running if slot not in PATIENT]
        for slot in (first,) if first else busy or running:
            self._step(slot)

    def close(self) -> None:
        """Drop all runs."""
        for slot in ORDER:
            self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        _, run = self._running.pop(slot, (0, None))
        if run is not None:
            run.close()

    def _step(self, slot: Slot) -> None:
        run_id, run = self._running[slot]
        event: AnyEvent
        try:
            event = next(run)
        except StopIteration:
            event = RunFinished(run_id=run_id)
        except Interrupted:
            self._drop(slot)
            return
        except UserError as error:
            event = RunFailed(run_id=run_id, summary=str(error))
        except Exception as error:
            log.exception("a run failed")
            event = failure(run_id, error)
        if isinstance(event, RunFinished | RunFailed):
            self._drop(slot)
        self._send(event)


def outdated_by(request: AnyRequest) -> tuple[Slot, ...]:
    """The slots whose runs a request ends: a new model ends all, new SAEs a check-up."""
    if isinstance(request, OpenModel):
        return ORDER
    slot = slot_of(request)
    return (slot, *PATIENT) if slot == "saes" else (slot,)


def failure(run_id: int, error: BaseException) -> RunFailed:
    """An error that is no `UserError`, in words for the window."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        summary = (
            "There is not enough memory for this run. Use a shorter prompt, fewer SAEs or a "
            "smaller model."
        )
    else:
        summary = f"The run failed: {type(error).__name__}: {error}"
    return RunFailed(run_id=run_id, summary=summary, details=details)


def serve(engine: Engine, incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer requests until the stream ends or a `Shutdown` comes."""
    inbox = Inbox()
    reader = threading.Thread(
        target=_fill, args=(inbox, incoming), name="engine-requests", daemon=True
    )

    def send(event: AnyEvent) -> None:
        write_frame(outgoing, event)

    engine.heed(inbox.outdates_writing)
    send(engine.hello())
    reader.start()
    jobs = Jobs(engine, send)
    try:
        while not inbox.is_closed:
            for request in inbox.take(wait=not jobs):
                jobs.start(request)
            jobs.advance()
    finally:
        jobs.close()


def _fill(inbox: Inbox, incoming: BinaryIO) -> None:
    try:
        while (request := read_request(incoming)) is not None:
            inbox.put(request)
    except (ProtocolError, OSError, ValueError):
        log.exception("the stream of requests is broken; the engine ends")
    finally:
        inbox.close()
