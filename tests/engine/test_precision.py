"""Dtypes by name, and 8 or 4 bits where the packages for them are installed."""

import importlib.util

import pytest
import torch
import transformers
from tiny_models import save_tiny_model

from microscope.core.errors import ModelUnreadable
from microscope.core.prompts import Prompt
from microscope.engine import precision
from microscope.engine.language_model import LanguageModel
from microscope.engine.precision import NEEDED, choose_dtype, quantisation

CPU, MPS = torch.device("cpu"), torch.device("mps")
IS_INSTALLED = all(importlib.util.find_spec(name) for name in NEEDED)


def pretend(monkeypatch, *installed):
    found = {name: object() for name in installed}
    monkeypatch.setattr(precision.importlib.util, "find_spec", found.get)


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", "auto"),
        ("float32", "cuda", torch.float32),
        ("bfloat16", "cpu", torch.bfloat16),
    ],
)
def test_a_name_is_a_dtype(name, device, dtype):
    assert choose_dtype(name, torch.device(device)) == dtype
    assert quantisation(name, torch.device(device)) == {}


def test_another_name_lists_those_there_are():
    with pytest.raises(ModelUnreadable, match=r"Choose auto, float32, bfloat16, .*4bit"):
        choose_dtype("int3", CPU)


def test_without_its_packages_8_bits_say_what_is_missing(monkeypatch):
    pretend(monkeypatch, "accelerate")
    with pytest.raises(ModelUnreadable, match=r"; bitsandbytes is missing\. Choose bfloat16"):
        choose_dtype("8bit", CPU)
    pretend(monkeypatch)
    with pytest.raises(ModelUnreadable, match="; bitsandbytes and accelerate is missing"):
        choose_dtype("4bit", CPU)


def test_where_the_device_cannot_8_bits_are_refused(monkeypatch):
    pretend(monkeypatch, *NEEDED)
    assert choose_dtype("8bit", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(ModelUnreadable, match="on the device mps"):
        choose_dtype("8bit", MPS)


@pytest.mark.skipif(IS_INSTALLED, reason="8 and 4 bits can be opened here")
def test_a_model_opened_in_8_bits_without_the_packages_is_one_sentence(tmp_path):
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    folder = save_tiny_model(tmp_path, config)
    with pytest.raises(ModelUnreadable, match="bitsandbytes"):
        LanguageModel.open(str(folder), "cpu", "8bit")


@pytest.mark.skipif(not IS_INSTALLED, reason="needs bitsandbytes and accelerate")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "likeness"), [("8bit", 0.99), ("4bit", 0.6)])
def test_a_model_in_few_bits_reads_like_the_whole_one(tmp_path, name, likeness):
    config = transformers.LlamaConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4
    )
    folder = str(save_tiny_model(tmp_path, config))
    whole = LanguageModel.open(folder, "cpu", "float32")
    small = LanguageModel.open(folder, "cpu", name)
    assert (small.card.dtype, small.card.n_parameters) == (name, whole.card.n_parameters)
    assert small.card.is_exact
    ids = torch.tensor([whole.tokenise(Prompt("the harbour"))])
    pair = whole.step(ids)[0, 0], small.step(ids)[0, 0]
    assert torch.nn.functional.cosine_similarity(*pair, dim=0) > likeness
