"""Looks and downloads are reported as events of the library."""

import json
import sys
import threading

import pytest

from microscope.core.library import (
    DownloadFinished,
    DownloadJob,
    DownloadReport,
    LookedAround,
)
from microscope.workers import library_worker
from microscope.workers.library_worker import LibraryWorker

TIMEOUT_S = 60


class Heard:
    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def __call__(self, event):
        with self._changed:
            self.all.append(event)
            self._changed.notify()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, TIMEOUT_S)
        return self.all[count - 1]


@pytest.fixture
def heard():
    return Heard()


def test_a_look_finds_what_is_in_a_folder_and_how_much_is_free(heard, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    worker = LibraryWorker(heard)
    worker.look((str(tmp_path),), ())
    found = heard.wait_for(1)
    worker.look((), ())
    worker.close()
    assert isinstance(found, LookedAround)
    assert str(tmp_path) in {model.source for model in found.contents.models}
    assert found.free.cpu_bytes > 0
    assert len(heard.all) == 2  # closing waits for looks that go on


def test_a_download_is_reported_under_its_key(heard):
    line = json.dumps({"kind": "finished", "folders": ["/a"]})
    command = [sys.executable, "-c", f"print({line!r})"]
    worker = LibraryWorker(heard, download_command=command)
    worker.fetch(DownloadJob("key", "title", ()))
    assert heard.wait_for(1) == DownloadReport("key", DownloadFinished(("/a",)))
    worker.cancel()
    worker.close()


def test_a_disk_that_cannot_be_looked_at_still_gives_an_answer(heard, monkeypatch):
    def fail(*_):
        raise OSError("a disk that is gone")

    monkeypatch.setattr(library_worker, "look", fail)
    worker = LibraryWorker(heard)
    worker.look((), ())
    worker.close()
    (found,) = heard.all
    assert found.contents.models == ()
    assert found.contents.remarks == ("The disk could not be searched: a disk that is gone.",)
