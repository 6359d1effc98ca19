"""A network too large for one GPU is shared out block by block, and reads the same."""

import importlib.util

import numpy as np
import pytest
import torch
from tiny_models import open_tiny_model, tiny_model
from tiny_saes import random_sae
from transformers import AutoConfig

from microscope.core.errors import ModelUnreadable
from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import Generate, LensRead, Read, TextWritten
from microscope.core.prompts import Prompt
from microscope.core.sites import resid_post
from microscope.engine import loading, spreading
from microscope.engine.language_model import LanguageModel
from microscope.engine.reading import read
from microscope.engine.spreading import Room, device_map, place_blocks, remark_on, spread
from microscope.engine.writing import Writer

CUDA = torch.device("cuda")
HAS_ACCELERATE = importlib.util.find_spec("accelerate") is not None


@pytest.mark.parametrize(
    ("sizes", "rooms", "devices"),
    [
        ([3, 3, 3], [("a", 9)], "a a a"),
        ([3, 3, 3], [("a", 8)], "a a cpu"),
        ([3, 3, 3], [("a", 4), ("b", 9)], "a b b"),
        ([3, 3, 3, 3], [("a", 4), ("b", 4)], "a b cpu cpu"),
        ([3, 3, 1], [("a", 5)], "a cpu cpu"),
        ([3, 3], [("a", 1), ("b", 9)], "b b"),
        ([3], [("a", -5)], "cpu"),
        ([], [("a", 1)], ""),
    ],
)
def test_blocks_fill_one_device_after_the_other(sizes, rooms, devices):
    assert place_blocks(sizes, [Room(*room) for room in rooms]) == devices.split()


def config_of(family, tmp_path_factory):
    return AutoConfig.from_pretrained(tiny_model(family, tmp_path_factory))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_every_weight_has_a_device_and_what_the_lens_reads_is_on_the_first(
    family, tmp_path_factory
):
    network = open_tiny_model(family, tmp_path_factory).network
    total = sum(p.numel() * p.element_size() for p in network.parameters())
    places = device_map(network, [Room("first", total // 2), Room("second", total // 4)])
    blocks = {path for path in places if path.rpartition(".")[2].isdecimal()}
    assert len(blocks) == 3
    assert {device for path, device in places.items() if path not in blocks} == {"first"}
    assert "cpu" in places.values()
    for name, _ in network.named_parameters():
        assert [p for p in places if name.startswith(f"{p}.")], name


def pretend(monkeypatch, n_bytes, has_accelerate=True):
    monkeypatch.setattr(spreading, "free_rooms", lambda device: [Room("cuda:0", n_bytes)])
    found = {"accelerate": object()} if has_accelerate else {}
    monkeypatch.setattr(spreading.importlib.util, "find_spec", found.get)


def test_what_fits_is_left_whole(monkeypatch, tmp_path_factory):
    config = config_of("llama", tmp_path_factory)
    pretend(monkeypatch, 1 << 40)
    assert spread(config, CUDA, torch.float32) == {}
    assert spread(config, torch.device("cpu"), torch.float32) == {}
    assert remark_on({}) == ""


def test_what_does_not_fit_is_spread_and_says_so(monkeypatch, tmp_path_factory):
    config = config_of("llama", tmp_path_factory)
    pretend(monkeypatch, 1 << 10)
    places = spread(config, CUDA, torch.bfloat16)
    assert places["lm_head"] == "cuda:0"
    assert places["model.layers.2"] == "cpu"
    assert remark_on(places) == (
        "The model is too large for one GPU: it is spread over cuda:0 and main memory, which "
        "makes it slow."
    )
    assert remark_on({"a": "cuda:0", "b": "cuda:1"}).endswith("spread over cuda:0, cuda:1.")


def test_without_accelerate_what_does_not_fit_is_refused(monkeypatch, tmp_path_factory):
    config = config_of("llama", tmp_path_factory)
    pretend(monkeypatch, 1 << 10, has_accelerate=False)
    with pytest.raises(ModelUnreadable, match="or install accelerate"):
        spread(config, CUDA, torch.float32)


def test_the_rooms_are_what_is_free_with_the_chosen_gpu_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free = {"cuda:0": 10 << 30, "cuda:1": 20 << 30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free[str(gpu)], 0))
    first, second = spreading.free_rooms(torch.device("cuda:1"))
    assert (first.device, second.device) == ("cuda:1", "cuda:0")
    assert first.n_bytes == int(0.9 * (20 << 30)) - (1 << 30)
    assert second.n_bytes == int(0.9 * (10 << 30))


def test_what_a_closed_model_took_is_free(monkeypatch):
    free = {"n_bytes": 1 << 30}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free["n_bytes"], 0))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.update(n_bytes=20 << 30))
    assert spreading.free_rooms(CUDA)[0].n_bytes == int(0.9 * (20 << 30)) - (1 << 30)


@pytest.mark.skipif(not HAS_ACCELERATE, reason="needs accelerate")
@pytest.mark.filterwarnings("ignore")
def test_a_spread_model_reads_and_is_clamped_like_the_whole_one(monkeypatch, tmp_path_factory):
    whole = open_tiny_model("llama", tmp_path_factory)
    places = device_map(whole.network, [Room("cpu", 0)])
    places |= {"model.layers.1": "disk", "model.layers.2": "disk"}
    monkeypatch.setattr(loading, "spread", lambda *_: places)
    folder = str(tiny_model("llama", tmp_path_factory))
    apart = LanguageModel.open(folder)
    assert apart.card.is_exact
    assert next(apart.anatomy.blocks[2].parameters()).device.type == "meta"
    name = resid_post(1)
    saes = {name: random_sae(d_in=32, name=name)}
    asked = {
        "run_id": 1,
        "prompt": Prompt("the wall"),
        "clamps": (Clamp(FeatureId(name, 3), 9.0),),
    }
    found = []
    for model in (whole, apart):
        lens = [e.p for e in read(model, saes, Read(**asked)) if isinstance(e, LensRead)]
        written = Writer(model).write(saes, Generate(**asked, max_new_tokens=6))
        ids = [t.id for e in written if isinstance(e, TextWritten) for t in e.tokens]
        found.append((np.concatenate(lens, axis=1), ids))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    assert found[1][1] == found[0][1]
    assert len(found[0][1]) == 12  # both texts
