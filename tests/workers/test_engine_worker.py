import os
import signal
import subprocess
import sys
import threading

import pytest

from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import (
    EngineLost,
    EngineReady,
    Generate,
    Read,
    RunFailed,
    RunFinished,
    TextWritten,
)
from microscope.core.prompts import Prompt
from microscope.workers.engine_command import engine_command, engine_environment
from microscope.workers.engine_worker import MAX_DEATHS_IN_A_ROW, EngineWorker

FAKE = [sys.executable, "-m", "microscope.engine", "--fake"]
PROMPT = Prompt("a b")
TIMEOUT_S = 60


class Events:
    """Collects events and lets a test wait for one."""

    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def __call__(self, event):
        with self._changed:
            self.all.append(event)
            self._changed.notify()

    def wait_for(self, *kinds, count=1):
        def there():
            return len(self.of(*kinds)) >= count

        with self._changed:
            assert self._changed.wait_for(there, TIMEOUT_S), self.all
        return self.of(*kinds)[count - 1]

    def of(self, *kinds):
        return [event for event in self.all if isinstance(event, kinds)]


@pytest.fixture
def events():
    return Events()


@pytest.fixture
def worker(events):
    worker = EngineWorker(events, FAKE)
    worker.start()
    events.wait_for(EngineReady)
    yield worker
    worker.close()


def test_a_burst_of_requests_ends_with_the_last_one(worker, events):
    for n in range(1, 201):
        clamp = Clamp(FeatureId("s", 1), float(n))
        worker.submit(
            Generate(run_id=n, prompt=PROMPT, clamps=(clamp,), max_new_tokens=50),
        )
    events.wait_for(RunFinished)
    assert [event.run_id for event in events.of(RunFinished)] == [200]


def test_a_killed_engine_is_reported_and_comes_back(worker, events):
    worker.submit(Generate(run_id=1, prompt=PROMPT, max_new_tokens=100_000))
    events.wait_for(TextWritten, count=3)
    os.kill(worker.pid, signal.SIGKILL)
    lost = events.wait_for(EngineLost)
    assert lost.will_restart
    assert "memory" in lost.summary
    events.wait_for(EngineReady, count=2)
    worker.submit(Generate(run_id=2, prompt=PROMPT, max_new_tokens=2))
    assert events.wait_for(RunFinished).run_id == 2


def test_an_engine_that_keeps_dying_is_given_up_and_can_be_started_by_hand(worker, events):
    for n in range(1, MAX_DEATHS_IN_A_ROW + 1):
        events.wait_for(EngineReady, count=n)
        worker.submit(Read(run_id=n, prompt=Prompt("die")))
        lost = events.wait_for(EngineLost, count=n)
        assert "exit code 3" in lost.summary
    assert not lost.will_restart
    worker._supervisor.join(TIMEOUT_S)
    worker.restart()
    events.wait_for(EngineReady, count=MAX_DEATHS_IN_A_ROW + 1)


def test_restart_replaces_the_process(worker, events):
    before = worker.pid
    worker.restart()
    events.wait_for(EngineReady, count=2)
    assert worker.pid != before


def test_an_error_in_a_run_leaves_the_engine_alive(worker, events):
    worker.submit(Read(run_id=1, prompt=Prompt("boom")))
    assert "asked to fail" in events.wait_for(RunFailed).summary
    worker.submit(Read(run_id=2, prompt=PROMPT))
    assert events.wait_for(RunFinished).run_id == 2


def test_a_text_that_is_no_unicode_is_refused_and_the_next_one_is_sent(worker, events):
    worker.submit(Read(run_id=1, prompt=Prompt("a \udcff")))
    refused = events.wait_for(RunFailed)
    assert (refused.run_id, "Unicode" in refused.summary) == (1, True)
    worker.submit(Read(run_id=2, prompt=PROMPT))
    assert events.wait_for(RunFinished).run_id == 2


def test_an_engine_that_is_killed_in_mid_event_is_reported_as_killed(events):
    words = "import os, sys; sys.stdout.buffer.write(b'\\x10\\0\\0\\0ab'); "
    words += "sys.stdout.flush(); os.kill(os.getpid(), 9)"
    worker = EngineWorker(events, [sys.executable, "-c", words])
    worker.start()
    assert "memory" in events.wait_for(EngineLost).summary
    worker.close()


def test_a_process_that_speaks_nonsense_is_stopped(events):
    worker = EngineWorker(events, [sys.executable, "-c", "print('hello ' * 9, flush=True)"])
    worker.start()
    try:
        assert "unreadable" in events.wait_for(EngineLost).summary
    finally:
        worker.close()


def test_an_engine_that_cannot_be_started_is_reported(events):
    worker = EngineWorker(events, ["/nonexistent/engine"])
    worker.start()
    try:
        lost = events.wait_for(EngineLost)
        assert "could not be started" in lost.summary
        assert not lost.will_restart
    finally:
        worker.close()


def test_a_request_without_an_engine_is_dropped(events):
    EngineWorker(events, FAKE).submit(Read(run_id=1, prompt=PROMPT))
    assert events.all == []


def test_closing_ends_the_process(events):
    worker = EngineWorker(events, FAKE)
    worker.start()
    events.wait_for(EngineReady)
    pid = worker.pid
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not events.of(EngineLost)


def test_a_library_that_prints_cannot_break_the_stream():
    code = (
        "from microscope.engine.__main__ import take_stdout; import os;"
        "frames = take_stdout(); print('noise'); os.write(1, b'more noise');"
        "frames.write(b'frame'); frames.flush()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"frame"
    assert b"more noise" in done.stderr


def test_the_engine_gets_no_telemetry_and_no_spinning_threads():
    environment = engine_environment()
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert engine_command()[1:] == ["-m", "microscope.engine"]
