"""Downloads, with the real client of the hub and a small hub on this computer."""

import errno
import io
import json
import os
import subprocess
import sys

import msgspec
import pytest
from huggingface_hub import errors
from small_hub import COMMIT, SmallHub, etag_of, running

from microscope.core.errors import DownloadStopped
from microscope.core.library import (
    DownloadAdvanced,
    DownloadEvent,
    DownloadFailed,
    DownloadFinished,
    DownloadJob,
    DownloadPart,
    DownloadStarted,
    SaeRelease,
)
from microscope.storage import download as module
from microscope.storage import hub_files
from microscope.storage.download import network_error, sentence_of
from microscope.storage.library import look
from microscope.storage.releases import model_part, sae_part
from microscope.workers.download_worker import download_environment

BIG = bytes(range(256)) * (20 << 10)  # 5 MiB


def model_files(weights=BIG):
    return {
        "config.json": b'{"model_type": "gpt2", "n_layer": 1}',
        "tokenizer.json": b"{}",
        "model.safetensors": weights,
        "pytorch_model.bin": b"pickle",
        "onnx/model.safetensors": b"a copy for others",
        "README.md": b"words",
    }


def model_job(name):
    return DownloadJob(name, name, (model_part(name),))


def run(url, cache, job, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "microscope.storage.download"],
        input=msgspec.json.encode(job),
        capture_output=True,
        env={
            **download_environment(),
            "HF_ENDPOINT": url,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": "0",
            **environment,
        },
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr.decode()
    return [msgspec.json.decode(line, type=DownloadEvent) for line in lines], done


def test_a_model_comes_whole_and_without_what_is_not_needed(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    with running(hub) as url:
        events, done = run(url, tmp_path, model_job("some/model"))
    assert done.returncode == 0
    total = len(BIG) + 36 + 2
    assert events[0] == DownloadStarted(total, 0)
    counts = [e.done for e in events if isinstance(e, DownloadAdvanced)]
    assert counts == sorted(counts)
    assert counts[-1] == len(BIG)
    (folder,) = events[-1].folders
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "tokenizer.json"]
    with open(f"{folder}/model.safetensors", "rb") as file:
        assert file.read() == BIG
    (found,) = look(cache=tmp_path).models
    assert (found.source, found.folder) == ("some/model", folder)


def test_what_an_interrupted_download_has_fetched_is_not_fetched_again(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    partial = tmp_path / "models--some--model" / "blobs" / f"{etag_of(BIG, True)}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(BIG[: 3 << 20])
    with running(hub) as url:
        events, _ = run(url, tmp_path, model_job("some/model"))
    assert isinstance(events[-1], DownloadFinished)
    assert hub.ranges("model.safetensors") == [f"bytes={3 << 20}-"]
    with open(f"{events[-1].folders[0]}/model.safetensors", "rb") as file:
        assert file.read() == BIG
    assert not partial.exists()


def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    hub.cut_after = 4 << 20
    with running(hub) as url:
        events, _ = run(url, tmp_path, model_job("some/model"))
    assert isinstance(events[-1], DownloadFinished)
    assert hub.ranges("model.safetensors") == [None, f"bytes={4 << 20}-"]
    assert max(e.done for e in events if isinstance(e, DownloadAdvanced)) == len(BIG)


def test_a_file_that_came_damaged_is_thrown_away(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    blobs = tmp_path / "models--some--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{etag_of(BIG, True)}.incomplete").write_bytes(b"\xff" * (1 << 20))
    with running(hub) as url:
        events, done = run(url, tmp_path, model_job("some/model"))
    assert "damaged" in events[-1].summary
    assert done.returncode == 1
    assert not list(blobs.glob("*.incomplete"))


def test_what_is_here_already_is_counted_and_not_asked_for(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    with running(hub) as url:
        run(url, tmp_path, model_job("some/model"))
        hub.requests.clear()
        events, _ = run(url, tmp_path, model_job("some/model"))
    assert events[0].done == events[0].total
    assert not [r for r in hub.requests if "resolve" in r[1]]


def test_an_sae_s_folder_comes_alone(tmp_path):
    release = SaeRelease(
        name="r",
        repository="some/saes",
        model="m",
        format="SAELens",
        site="blocks.{layer}.hook_resid_pre",
        layers=(1, 11),
        d_in=4,
        path="blocks.{layer}.hook_resid_pre",
    )
    files = {
        f"blocks.{layer}.hook_resid_pre/{name}": b"{}"
        for layer in (1, 11)
        for name in ("cfg.json", "sae_weights.safetensors", "notes.txt")
    }
    hub = SmallHub({"some/saes": files})
    with running(hub) as url:
        events, _ = run(url, tmp_path, DownloadJob("k", "t", (sae_part(release, [1]),)))
    folder = events[-1].folders[0]
    assert os.listdir(folder) == ["blocks.1.hook_resid_pre"]
    assert sorted(os.listdir(f"{folder}/blocks.1.hook_resid_pre")) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]


def fail(tmp_path, hub, name="some/model", **environment):
    with running(hub) as url:
        events, done = run(url, tmp_path, model_job(name), **environment)
    assert done.returncode == 1
    assert isinstance(events[-1], DownloadFailed)
    return events[-1].summary


def test_a_gated_repository_asks_for_a_login(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    hub.gated = {"some/model"}
    assert "some/model: its owner asks for a login" in fail(tmp_path, hub)


def test_a_repository_that_is_not_there_is_named(tmp_path):
    assert "no/where was not found" in fail(tmp_path, SmallHub({}), "no/where")


def test_weights_in_pickles_are_not_fetched(tmp_path):
    hub = SmallHub({"some/model": {"config.json": b"{}", "pytorch_model.bin": b"x"}})
    assert "no weights as safetensors" in fail(tmp_path, hub)
    assert not [r for r in hub.requests if "resolve" in r[1]]


def test_a_hub_that_cannot_be_reached_is_told_as_that(tmp_path):
    nobody = "http://127.0.0.1:9"
    events, _ = run(nobody, tmp_path, model_job("some/model"))
    assert "cannot be reached" in events[-1].summary


def test_a_client_that_is_told_to_stay_offline_says_so(tmp_path):
    hub = SmallHub({"some/model": model_files()})
    assert "HF_HUB_OFFLINE" in fail(tmp_path, hub, HF_HUB_OFFLINE="1")
    assert hub.requests == []


def test_a_full_disk_is_seen_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_files.constants, "HF_HUB_CACHE", str(tmp_path / "new" / "cache"))
    free = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr(hub_files.shutil, "disk_usage", lambda place: free)
    small = hub_files.HubFile("some/model", COMMIT, "a", 700 << 20)
    hub_files.check_room([small])
    with pytest.raises(DownloadStopped, match=r"1\.1 GB free, and 1\.6 GB are to be fetched"):
        hub_files.check_room([small, hub_files.HubFile("some/model", COMMIT, "b", 800 << 20)])


JOB = DownloadJob("k", "the title", (DownloadPart("a/b", ("*",)), DownloadPart("c/d", ("*",))))


def test_every_error_becomes_one_sentence():
    full = OSError(errno.ENOSPC, "No space left on device")
    offline = errors.LocalEntryNotFoundError("not here")
    offline.__cause__ = errors.OfflineModeIsEnabled("offline")
    cases = {
        "disk is full": full,
        "HF_HUB_OFFLINE": offline,
        "cannot be reached": network_error()("timed out"),
        "the title stopped: odd thing": ValueError("odd\n  thing"),
        "as it is": DownloadStopped("as it is"),
    }
    for words, error in cases.items():
        assert words in sentence_of(error, JOB)


def test_a_job_that_is_none_ends_the_process_before_the_network():
    with pytest.raises(msgspec.MsgspecError):
        module.main(io.BytesIO(json.dumps({"key": 1}).encode()), io.BytesIO())
