import sys
import threading

import pytest

from microscope.core.messages import EngineLost, Progress
from microscope.workers.specimen_builder import SpecimenBuilder

TIMEOUT_S = 30


@pytest.fixture
def outcome():
    return [], threading.Event()


def builder(code, outcome, tmp_path):
    events, done = outcome

    def on_event(event):
        events.append(event)
        if isinstance(event, EngineLost):
            done.set()

    return SpecimenBuilder(tmp_path, on_event, done.set, [sys.executable, "-c", code])


def test_progress_is_reported_and_the_end_announced(outcome, tmp_path):
    code = "import sys; [sys.stderr.write(f'\\rTraining {n} %  ') for n in (10, 55, 100)]"
    maker = builder(code, outcome, tmp_path)
    maker.start()
    events, done = outcome
    assert done.wait(TIMEOUT_S)
    maker.close()
    assert events == [
        Progress(run_id=0, text="Training", done=n, total=100) for n in (10, 55, 100)
    ]


def test_a_build_that_fails_is_reported_with_its_last_words(outcome, tmp_path):
    maker = builder("raise SystemExit('the disk is full')", outcome, tmp_path)
    maker.start()
    events, done = outcome
    assert done.wait(TIMEOUT_S)
    maker.close()
    (lost,) = events
    assert not lost.will_restart
    assert "the disk is full" in lost.details


def test_closing_stops_the_build_and_says_nothing(outcome, tmp_path):
    maker = builder("import time; print('go', flush=True); time.sleep(600)", outcome, tmp_path)
    maker.start()
    maker.close()
    assert outcome[0] == []
    assert not outcome[1].is_set()
