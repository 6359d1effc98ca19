"""Model folders that are made to harm: refused in one sentence, or opened without harm.

All are opened with the address space bounded, so that what asks for much memory fails.
"""

import json
import math
import os
import shutil
import struct

import pytest
import torch
from bounded import ROOM_BYTES, memory_bounded, refusal
from safetensors.torch import load_file, save_file
from tiny_models import open_tiny_model, tiny_model

from microscope.core.errors import UserError
from microscope.engine.language_model import LanguageModel

pytestmark = pytest.mark.timeout(120)

TERABYTE = 1 << 40
posix_only = pytest.mark.skipif(os.name == "nt", reason="there are no such files")


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch):
    """A copy of a good model, to be spoilt, with a program in it that must not be run."""
    good = tiny_model("llama", tmp_path_factory)
    open_tiny_model("llama", tmp_path_factory)  # whatever is imported on the way is there now
    shutil.copytree(good, tmp_path / "model")
    code = "import pathlib\npathlib.Path(__file__).with_name('sentinel').touch()\n"
    (tmp_path / "model" / "harm.py").write_text(code)
    monkeypatch.chdir(tmp_path / "model")
    return tmp_path / "model"


def open_folder(folder):
    return LanguageModel.open(str(folder), device="cpu")


def refused(folder, room_bytes=ROOM_BYTES):
    sentence = refusal(folder, lambda: open_folder(folder), room_bytes)
    assert_nothing_was_run(folder)
    return sentence


def assert_nothing_was_run(folder):
    assert not list(folder.rglob("sentinel")), "code from the folder was run"
    assert not list(folder.rglob("__pycache__"))


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def put_in_place(path, kind):
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name}.get(kind, "/no/such/file"))


def id_of(changes):
    return json.dumps(changes)[:60]


ABSURD = [
    {"num_hidden_layers": -1},
    {"num_hidden_layers": 0},
    {"num_hidden_layers": 10**12},
    {"num_hidden_layers": 10**400},
    {"num_hidden_layers": 2.5},
    {"num_hidden_layers": "3"},
    {"num_hidden_layers": [3]},
    {"num_hidden_layers": None},
    {"hidden_size": -32},
    {"hidden_size": 10**9},
    {"hidden_size": 10**30},
    {"hidden_size": math.nan},
    {"intermediate_size": 10**12},
    {"intermediate_size": -48},
    {"num_attention_heads": 10**9},
    {"num_attention_heads": -4},
    {"num_key_value_heads": 3},
    {"num_key_value_heads": 0},
    {"head_dim": 10**10},
    {"head_dim": -8},
    {"vocab_size": -1},
    {"vocab_size": 10**12},
    {"vocab_size": {"a": 1}},
    {"max_position_embeddings": "many"},
    {"rms_norm_eps": "small"},
    {"rms_norm_eps": math.nan},
    {"hidden_act": "os.system"},
    {"hidden_act": 7},
    {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}},
    {"rope_parameters": [1, 2]},
    {"dtype": "float7"},
    {"model_type": 7},
    {"model_type": ["llama"]},
    {"model_type": "../../llama"},
    {"model_type": "x" * 1_000_000},
    {"model_type": "bert"},
    {"model_type": "gpt2"},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"quantization_config": "all of it"},
    {"attn_implementation": "someone/kernel-from-the-hub"},
    {"attn_implementation": "no such attention"},
    {"experts_implementation": "someone/kernel-from-the-hub"},
]


@pytest.mark.parametrize("changes", ABSURD, ids=id_of)
def test_a_config_that_no_model_has_is_refused(changes, folder):
    change(folder / "config.json", **changes)
    refused(folder)


CODE = {"AutoConfig": "harm.Config", "AutoModelForCausalLM": "harm.Model"}
HARMLESS = [
    {"auto_map": CODE},
    {"auto_map": CODE, "trust_remote_code": True},
    {"auto_map": 7},
    {"architectures": ["harm.Model"]},
    {"architectures": 7},
    {"trust_remote_code": True},
    {"return_dict": False},
    {"output_attentions": True},
    {"output_hidden_states": True},
    {"use_cache": False},
    {"transformers_version": [9, 9]},
    {"_name_or_path": "/etc/passwd"},
    {"_commit_hash": 7},
    {"id2label": {"0": "x"}},
    {"is_decoder": True, "add_cross_attention": False},
    {"custom_generate": "harm"},
    {"torch_dtype": "float32"},
    {"dtype": "int8"},
    {"dtype": 7},
    {"max_position_embeddings": -1},
    {"max_position_embeddings": 0},
    {"quantization_config": {"quant_method": "no such method"}},
    {"chunk_size_feed_forward": 7},
    {"problem_type": "regression"},
]


@pytest.mark.parametrize("changes", HARMLESS, ids=id_of)
def test_what_does_not_concern_us_changes_nothing_and_runs_nothing(
    changes, folder, tmp_path_factory
):
    change(folder / "config.json", **changes)
    ids = torch.tensor([[5, 6, 7]])
    expected = open_tiny_model("llama", tmp_path_factory).step(ids)
    model = opened_or_refused(folder)
    assert model is None or torch.equal(model.step(ids), expected)


NO_CONFIG = {
    "empty": b"",
    "not UTF-8": b'{"model_type": "\xff\xfe"}',
    "UTF-16": '{"model_type": "llama"}'.encode("utf-16"),
    "a list": b"[]",
    "null": b"null",
    "a text": b'"llama"',
    "nested very deep": b'{"a":' * 200_000,
    "a number of 100,000 digits": b'{"num_hidden_layers": ' + b"9" * 100_000 + b"}",
    "cut short": b'{"model_type": "lla',
    "a key twice": b'{"model_type": "llama", "model_type": "gpt2"}',
    "a zero byte": b'{"model_type": "llama"\0}',
}


@pytest.mark.parametrize("content", NO_CONFIG.values(), ids=NO_CONFIG.keys())
def test_a_config_that_is_none_is_refused(content, folder):
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refused(folder)


SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "adapter_config.json",
)


@pytest.mark.parametrize("name", SMALL_FILES)
def test_a_small_file_of_a_terabyte_is_refused(name, folder):
    with (folder / name).open("ab") as file:
        file.truncate(TERABYTE)
    assert name in refused(folder)


@posix_only
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", [*SMALL_FILES, "model.safetensors"])
def test_something_without_an_end_in_a_files_place_is_refused(name, kind, folder):
    put_in_place(folder / name, kind)
    refused(folder)


@posix_only
@pytest.mark.parametrize("kind", ["folder", "link to nothing", "loop"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_nothing_in_a_files_place_is_refused(name, kind, folder):
    put_in_place(folder / name, kind)
    refused(folder)


@posix_only
def test_what_a_link_leads_to_is_not_told(folder, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the password is swordfish")
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        assert "swordfish" not in refused(folder)


def header(content, length=None):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + b"\0" * 64


WEIGHTS = {
    "empty": b"",
    "a web page": b"<!doctype html><title>404</title>" * 20,
    "header of 2^60 bytes": header(b"{}", 1 << 60),
    "header longer than the file": header(b"{}", 4096),
    "header that is a list": header([]),
    "header nested very deep": header(b'{"a":' * 50_000),
    "no tensors": struct.pack("<Q", 2) + b"{}",
    "a tensor of 10^24 numbers": header(
        {"a": {"dtype": "F32", "shape": [10**12, 10**12], "data_offsets": [0, 64]}}
    ),
    "offsets past the end": header(
        {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 1 << 50]}}
    ),
    "a pickle": b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch sentinel\x85R.",
}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_weights_that_are_none_are_refused(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    refused(folder)


def turned(weights):
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].T.contiguous()


def not_finite(weights):
    weights["model.layers.2.mlp.down_proj.weight"][3, 3] = math.nan


def infinite(weights):
    weights["model.embed_tokens.weight"][:] = math.inf


@pytest.mark.parametrize("spoil", [turned, not_finite, infinite])
def test_weights_that_give_no_numbers_are_refused(spoil, folder):
    weights = load_file(folder / "model.safetensors")
    spoil(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    refused(folder)


INDEX = {
    "a path upwards": {"weight_map": {"a": "../model.safetensors"}},
    "a whole path": {"weight_map": {"a": "/etc/passwd"}},
    "a name with a zero byte": {"weight_map": {"a": "model\0.safetensors"}},
    "a name of a million letters": {"weight_map": {"a": "x" * 1_000_000}},
    "no name": {"weight_map": {"a": ""}},
    "the folder itself": {"weight_map": {"a": "."}},
    "a number": {"weight_map": {"a": 7}},
    "a list in a name's place": {"weight_map": {"a": ["model.safetensors"]}},
    "a list": {"weight_map": [1]},
    "nothing": {},
    "a pickle": {"weight_map": {"a": "pytorch_model.bin"}},
    "a program": {"weight_map": {"a": "harm.py"}},
}


@pytest.mark.parametrize("content", INDEX.values(), ids=INDEX.keys())
def test_an_index_that_leads_astray_is_refused(content, folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(WEIGHTS["a pickle"])
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    refused(folder)


TOKENIZER = {
    "empty": b"",
    "no JSON": b"<html>",
    "an empty object": b"{}",
    "a list": b"[]",
    "nested very deep": b'{"a":' * 100_000,
    "not UTF-8": b'{"version": "\xff"}',
    "an unknown model": b'{"version": "1.0", "model": {"type": "Evil"}}',
    "no vocabulary": b'{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
    "a negative id": b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
    "an id of 10^30": b'{"model": {"type": "BPE", "vocab": {"a": 1' + b"0" * 30 + b"}}}",
    "a merge of unknown words": b'{"model": {"type": "BPE", "vocab": {}, "merges": ["b c"]}}',
}


@pytest.mark.parametrize("content", TOKENIZER.values(), ids=TOKENIZER.keys())
def test_a_tokenizer_that_is_none_is_refused(content, folder):
    (folder / "tokenizer.json").write_bytes(content)
    refused(folder)


def test_an_id_far_beyond_the_vocabulary_takes_no_memory(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["far"] = (1 << 32) - 1
    (folder / "tokenizer.json").write_text(json.dumps(content))
    opened_or_refused(folder)


TOKENIZER_SETTINGS = [
    {"auto_map": {"AutoTokenizer": ["harm.Tokenizer", None]}},
    {"auto_map": 7},
    {"tokenizer_class": "os.system"},
    {"tokenizer_class": 7},
    {"tokenizer_class": "harm.Tokenizer", "auto_map": CODE},
    {"bos_token": 7},
    {"bos_token": {"__type": "Evil"}},
    {"model_max_length": "many"},
    {"model_max_length": -1},
    {"model_max_length": 10**30},
    {"chat_template": 7},
    {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    {"added_tokens_decoder": {"x": 1}},
    {"added_tokens_decoder": {str(10**30): {"content": "x"}}},
    {"extra_special_tokens": "x"},
]


@pytest.mark.parametrize("changes", TOKENIZER_SETTINGS, ids=id_of)
def test_settings_of_a_tokenizer_are_refused_or_do_no_harm(changes, folder):
    change(folder / "tokenizer_config.json", **changes)
    opened_or_refused(folder)


GENERATION_SETTINGS = [
    {"eos_token_id": "x"},
    {"eos_token_id": 10**30},
    {"eos_token_id": [[1]]},
    {"eos_token_id": -5},
    {"custom_generate": "harm"},
    {"max_length": -1, "temperature": "hot", "num_beams": 0},
    {"assistant_model": "harm"},
]


@pytest.mark.parametrize("changes", GENERATION_SETTINGS, ids=id_of)
def test_settings_of_generation_are_refused_or_do_no_harm(changes, folder):
    path = folder / "generation_config.json"
    path.write_text(json.dumps(changes))
    opened_or_refused(folder)


def opened_or_refused(folder):
    """The model, or None where it is refused; nothing is run, and nothing else raised."""
    try:
        with memory_bounded():
            model = open_folder(folder)
    except UserError:
        refused(folder)
        return None
    assert all(type(i) is int for i in (*model.special_ids, *model.eos_ids))
    assert_nothing_was_run(folder)
    return model


@pytest.mark.parametrize(
    "source",
    ["", "x" * 5000, "/" + "x/" * 3000, "a\0b", "~no-such-user-here/model"],
)
def test_a_path_that_no_system_has_is_refused(source):
    refusal("", lambda: open_folder(source))
