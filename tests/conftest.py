"""What every test runs under: one thread of torch, no hub, no display, nothing left behind."""

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gc
import multiprocessing
import threading

import pytest

GRACE_S = 3


def pytest_collection_finish():
    """What was imported stays: later collections need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request):
    """Fail a test that leaves a thread, a process or a top-level widget behind."""
    uses_qt = "qtbot" in request.fixturenames or "qapp" in request.fixturenames
    app = request.getfixturevalue("qapp") if uses_qt else None
    threads_before = set(threading.enumerate())
    widgets_before = set(map(id, app.topLevelWidgets())) if app else set()
    yield
    if app:
        app.sendPostedEvents(None, 52)  # QEvent.DeferredDelete
    gc.collect()  # a forgotten generator or widget must not outlive its test
    left = [t for t in threading.enumerate() if t not in threads_before]
    for thread in left:
        thread.join(GRACE_S)  # a library's pool that is on its way out is no leak
    left = [thread.name for thread in left if thread.is_alive()]
    assert not left, f"threads left running: {left}"
    assert not multiprocessing.active_children()
    if app:
        orphans = [w for w in app.topLevelWidgets() if id(w) not in widgets_before]
        assert not orphans, f"widgets left open: {orphans}"
