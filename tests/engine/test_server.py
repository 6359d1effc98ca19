import io
import os
import threading
from contextlib import contextmanager

import pytest

from microscope.core.frames import read_event, write_frame
from microscope.core.messages import (
    Cancel,
    CheckUp,
    EngineReady,
    Generate,
    ModelOpened,
    OpenModel,
    OpenSaes,
    Read,
    RunFailed,
    RunFinished,
    Shutdown,
    TextWritten,
)
from microscope.core.prompts import Prompt
from microscope.engine.fake import FakeEngine
from microscope.engine.inbox import Inbox
from microscope.engine.interrupting import Interrupted
from microscope.engine.server import Jobs, failure, serve

PROMPT = Prompt("one two")


class Recorder(list):
    def kinds(self):
        return [type(event) for event in self]

    def finished(self):
        return [event.run_id for event in self if isinstance(event, RunFinished)]


def run(*requests, engine=None):
    """All events of requests that are in the inbox before the first step."""
    seen = Recorder()
    inbox, jobs = Inbox(), Jobs(engine or FakeEngine(0), seen.append)
    for request in requests:
        inbox.put(request)
    for request in inbox.take(wait=False):
        jobs.start(request)
    while jobs:
        jobs.advance()
    return seen


def test_only_the_newest_request_of_a_kind_runs():
    seen = run(*(Generate(run_id=n, prompt=PROMPT, max_new_tokens=3) for n in range(1, 200)))
    assert {event.run_id for event in seen} == {199}


def test_a_model_is_open_before_anything_is_read_whatever_came_first():
    seen = run(Read(run_id=1, prompt=PROMPT), OpenModel(run_id=2, source="m"))
    assert isinstance(seen[0], ModelOpened)
    assert seen.finished() == [2, 1]


def test_reading_and_writing_take_turns():
    seen = run(
        Read(run_id=1, prompt=PROMPT), Generate(run_id=2, prompt=PROMPT, max_new_tokens=9)
    )
    runs = [event.run_id for event in seen]
    assert runs[:6] == [1, 2, 1, 2, 1, 2]


def test_a_check_up_waits_until_nothing_else_runs():
    seen = run(
        CheckUp(run_id=3),
        Read(run_id=1, prompt=PROMPT),
        Generate(run_id=2, prompt=PROMPT, max_new_tokens=9),
    )
    runs = [event.run_id for event in seen]
    assert runs.index(3) > max(at for at, run_id in enumerate(runs) if run_id != 3)
    assert seen.finished()[-1] == 3


def test_a_check_up_begun_gives_way_and_other_saes_end_it():
    seen = Recorder()
    jobs = Jobs(FakeEngine(0), seen.append)
    jobs.start(CheckUp(run_id=1))
    jobs.advance()
    jobs.start(Read(run_id=2, prompt=PROMPT))
    jobs.advance()
    assert [event.run_id for event in seen] == [1, 2]
    jobs.start(OpenSaes(run_id=3, sources=("/a",)))
    while jobs:
        jobs.advance()
    assert seen.finished() == [3, 2]


def test_a_newer_request_stops_the_older_within_one_token():
    seen = Recorder()
    jobs = Jobs(FakeEngine(0), seen.append)
    jobs.start(Generate(run_id=1, prompt=PROMPT, max_new_tokens=1000))
    for _ in range(5):
        jobs.advance()
    jobs.start(Generate(run_id=2, prompt=PROMPT, max_new_tokens=2))
    while jobs:
        jobs.advance()
    assert [event.run_id for event in seen].index(2) == 5
    assert seen.finished() == [2]


def test_a_cancelled_run_says_nothing_more():
    seen = Recorder()
    jobs = Jobs(FakeEngine(0), seen.append)
    jobs.start(Generate(run_id=1, prompt=PROMPT, max_new_tokens=1000))
    jobs.advance()
    jobs.start(Cancel(run_id=0, slot="generate"))
    assert not jobs
    assert len(seen) == 1


def test_a_new_model_ends_the_runs_of_the_old_one():
    seen = Recorder()
    jobs = Jobs(FakeEngine(0), seen.append)
    jobs.start(Generate(run_id=1, prompt=PROMPT, max_new_tokens=1000))
    jobs.advance()
    jobs.start(OpenModel(run_id=2, source="m"))
    while jobs:
        jobs.advance()
    assert seen.finished() == [2]


def test_what_the_user_can_act_on_has_no_details_and_a_bug_has_them():
    (refused,) = run(OpenModel(run_id=1, source="missing"))
    assert refused == RunFailed(run_id=1, summary="There is no model in the folder 'missing'.")
    (failed,) = run(Read(run_id=2, prompt=Prompt("boom")))
    assert "asked to fail" in failed.summary
    assert "Traceback" in failed.details


def test_running_out_of_memory_says_what_to_lower():
    assert "shorter prompt" in failure(1, MemoryError()).summary


@contextmanager
def engine_thread():
    """A served engine at the other end of two pipes."""
    requests_out, requests_in = os.pipe()
    events_out, events_in = os.pipe()
    with (
        os.fdopen(requests_out, "rb") as incoming,
        os.fdopen(requests_in, "wb") as requests,
        os.fdopen(events_out, "rb") as events,
        os.fdopen(events_in, "wb") as outgoing,
    ):
        thread = threading.Thread(target=serve, args=(FakeEngine(0), incoming, outgoing))
        thread.start()
        yield requests, events
        requests.close()
        thread.join(5)
        assert not thread.is_alive()
        for other in threading.enumerate():
            if other.name == "engine-requests":
                other.join(5)


def test_the_engine_says_hello_answers_and_ends_with_its_stream():
    with engine_thread() as (requests, events):
        assert isinstance(read_event(events), EngineReady)
        write_frame(requests, Generate(run_id=5, prompt=PROMPT, max_new_tokens=2))
        seen = Recorder(iter(lambda: read_event(events), RunFinished(run_id=5)))
        assert seen.kinds().count(TextWritten) == 2


def test_shutdown_ends_it():
    with engine_thread() as (requests, events):
        assert isinstance(read_event(events), EngineReady)
        write_frame(requests, Shutdown(run_id=0))


def test_garbage_on_the_stream_ends_it_without_a_traceback_in_the_window():
    outgoing = io.BytesIO()
    serve(FakeEngine(0), io.BytesIO(b"\xff\xff\xff\xff garbage"), outgoing)
    outgoing.seek(0)
    assert isinstance(read_event(outgoing), EngineReady)


@pytest.mark.parametrize("slot", ["model", "saes", "read", "generate"])
def test_cancelling_an_empty_slot_is_harmless(slot):
    assert run(Cancel(run_id=0, slot=slot)) == []


class Stubborn(FakeEngine):
    """Asks in the middle of a step, as a real forward pass does."""

    def heed(self, should_stop):
        self.should_stop = should_stop

    def handle(self, request):
        yield from super().handle(request)
        if self.should_stop():
            raise Interrupted


def test_a_run_that_is_interrupted_ends_in_silence():
    engine, seen = Stubborn(0), Recorder()
    inbox = Inbox()
    engine.heed(inbox.outdates_writing)
    jobs = Jobs(engine, seen.append)
    jobs.start(Generate(run_id=1, prompt=PROMPT, max_new_tokens=1))
    inbox.put(Read(run_id=2, prompt=PROMPT))
    assert not inbox.outdates_writing()
    inbox.put(Generate(run_id=3, prompt=PROMPT, max_new_tokens=1))
    while jobs:
        jobs.advance()
    assert seen.finished() == []
    assert RunFailed not in seen.kinds()
