"""A model whose needed files alone were downloaded opens by its hub id, without a network."""

import os
import subprocess
import sys

import msgspec
import pytest
from huggingface_hub import constants
from small_hub import SmallHub, running
from tiny_models import tiny_model

from microscope.core.errors import ModelUnreadable
from microscope.core.library import DownloadJob
from microscope.engine.checkpoint import find_checkpoint
from microscope.storage.releases import model_part


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def download(url, cache, name):
    subprocess.run(
        [sys.executable, "-m", "microscope.storage.download"],
        input=msgspec.json.encode(DownloadJob(name, name, (model_part(name),))),
        capture_output=True,
        env={
            **os.environ,
            "HF_ENDPOINT": url,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        },
        timeout=120,
        check=True,
    )


def test_a_download_without_what_is_not_needed_is_a_whole_model(cache, tmp_path_factory):
    folder = tiny_model("llama", tmp_path_factory)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    hub = SmallHub({"tiny/llama": {**files, "README.md": b"x", "pytorch_model.bin": b"x"}})
    with running(hub) as url:
        download(url, cache, "tiny/llama")
    checkpoint = find_checkpoint("tiny/llama")
    assert checkpoint.name == "tiny/llama"
    assert cache in checkpoint.folder.parents
    assert not (checkpoint.folder / "README.md").exists()


def test_a_hub_id_that_is_not_in_the_cache_asks_for_a_download(cache):
    with pytest.raises(ModelUnreadable, match="download the model first"):
        find_checkpoint("nobody/nothing")
