"""A download in its own process: it reports, it can be ended, and it goes on later."""

import sys
import threading

import pytest
from small_hub import SmallHub, running

from microscope.core.library import (
    DownloadAdvanced,
    DownloadCancelled,
    DownloadFailed,
    DownloadFinished,
    DownloadJob,
    DownloadPart,
)
from microscope.workers.download_worker import DownloadWorker, download_command

TIMEOUT_S = 60
BIG = bytes(range(256)) * (20 << 10)  # 5 MiB
JOB = DownloadJob("key", "title", (DownloadPart("some/model", ("*",)),))


class Heard:
    """Collects events and lets a test wait for the last."""

    def __init__(self):
        self.all = []
        self.is_over = threading.Event()

    def __call__(self, key, event):
        self.all.append((key, event))
        if isinstance(event, DownloadFinished | DownloadFailed | DownloadCancelled):
            self.is_over.set()

    def last(self):
        assert self.is_over.wait(TIMEOUT_S), self.all
        self.is_over.clear()
        return self.all[-1][1]


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = SmallHub({"some/model": {"config.json": b"{}", "model.safetensors": BIG}})
    with running(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield hub


def test_a_cancelled_download_goes_on_where_it_was_ended(hub, heard, tmp_path):
    hub.cut_after, hub.stalls = 3 << 20, threading.Event()
    worker = DownloadWorker(heard)
    worker.start(JOB)
    assert hub.reached.wait(TIMEOUT_S)
    while sum(f.stat().st_size for f in tmp_path.rglob("*.incomplete")) < 2 << 20:
        assert worker.is_running
    worker.start(DownloadJob("other", "other", ()))  # nothing happens
    worker.cancel()
    assert heard.last() == DownloadCancelled()
    worker.close()
    hub.cut_after = None
    hub.stalls.set()
    worker.start(JOB)
    assert isinstance(heard.last(), DownloadFinished)
    worker.close()
    assert {key for key, _ in heard.all} == {"key"}
    first, *later = hub.ranges("model.safetensors")
    assert first is None
    (again,) = later
    assert int(again.removeprefix("bytes=").removesuffix("-")) >= 2 << 20
    (found,) = tmp_path.rglob("model.safetensors")
    assert found.read_bytes() == BIG


def test_closing_ends_a_download(hub, heard):
    hub.cut_after, hub.stalls = 1 << 20, threading.Event()
    worker = DownloadWorker(heard)
    worker.start(JOB)
    assert hub.reached.wait(TIMEOUT_S)
    worker.close()
    assert heard.last() == DownloadCancelled()
    assert not worker.is_running


def worker_of(heard, code):
    worker = DownloadWorker(heard, [sys.executable, "-c", code])
    worker.start(JOB)
    last = heard.last()
    worker.close()
    return last


def test_a_process_that_dies_is_a_failure_with_its_code(heard):
    assert "exit code 3" in worker_of(heard, "raise SystemExit(3)").summary


def test_another_download_can_begin_as_soon_as_one_is_over(heard):
    def go_on(key, event):
        if key == "next":
            return heard(key, event)
        heard.all.append((key, event))
        return worker.start(DownloadJob("next", "title", ()))

    code = """print('{"kind":"finished","folders":[]}')"""
    worker = DownloadWorker(go_on, [sys.executable, "-c", code])
    worker.start(JOB)
    assert heard.last() == DownloadFinished(())
    worker.close()
    assert [key for key, _ in heard.all] == ["key", "next"]


def test_what_is_no_event_is_passed_over(heard):
    code = """print("noise"); print('{"kind":"advanced","done":1,"total":2,"file":"f"}')"""
    assert isinstance(worker_of(heard, code), DownloadFailed)
    assert heard.all[0][1] == DownloadAdvanced(1, 2, "f")


def test_a_program_that_is_not_there_is_a_failure(heard):
    worker = DownloadWorker(heard, ["/nonexistent/program"])
    worker.start(JOB)
    assert "cannot start" in heard.last().summary
    worker.close()


def test_a_frozen_program_downloads_with_the_engine_s_executable(monkeypatch):
    assert download_command() == [sys.executable, "-m", "microscope.storage.download"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/microscope/microscope")
    assert download_command() == ["/opt/microscope/microscope-engine", "download"]
