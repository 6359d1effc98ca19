"""What is on this computer is found and described without opening it."""

import json
import struct
import sys

import pytest
from tiny_folders import CONFIG, TENSORS, safetensors_bytes, save_in_cache, save_model

from microscope.core.cards import SPECIMEN
from microscope.core.library import ModelShape, SaeRelease
from microscope.storage.library import look
from microscope.storage.model_folder import examine, shape_of

GIB = 1 << 30


def looked_at(folder):
    return examine(folder, "source", "name")


def test_a_model_is_described_from_its_headers(tmp_path):
    model = looked_at(save_model(tmp_path / "m"))
    assert (model.source, model.name, model.problem) == ("source", "name", "")
    assert (model.architecture, model.dtype, model.n_parameters) == ("llama", "bfloat16", 148)
    assert model.shape == ModelShape(2, 8, 4, 2, 2, 10)
    assert model.size_bytes == sum(f.stat().st_size for f in (tmp_path / "m").iterdir())


def test_a_model_in_several_files_is_counted_whole(tmp_path):
    folder = save_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    names = {"a": "x-1.safetensors", "b": "x-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    for name in names.values():
        (folder / name).write_bytes(safetensors_bytes({name: ("F16", [7, 3])}))
    assert looked_at(folder).n_parameters == 42
    assert looked_at(folder).dtype == "float16"


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"n_layer": 3, "n_embd": 12, "n_head": 2}, ModelShape(3, 12, 2, 2, 6, 0)),
        ({"text_config": {"num_hidden_layers": 5}}, ModelShape(5)),
        ({"num_hidden_layers": "many", "hidden_size": -1}, ModelShape()),
    ],
)
def test_sizes_are_known_by_the_names_of_every_family(config, shape):
    assert shape_of(config) == shape


def spoil(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def shards(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def only_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


WHOLE = safetensors_bytes(TENSORS)
DAMAGES = {
    "cannot be read as JSON": spoil("config.json", b"{"),
    "is not a JSON object": spoil("config.json", b"[1]"),
    "names no model_type": spoil("config.json", b"{}"),
    "encoder-decoder": spoil(
        "config.json", b'{"model_type": "t5", "is_encoder_decoder": true}'
    ),
    "its tensors take 312 bytes, and there are 211": spoil("model.safetensors", WHOLE[:-101]),
    "has not the length": spoil("model.safetensors", struct.pack("<Q", GIB) + b"{}"),
    "damaged or cut short": spoil("model.safetensors", b""),
    "no JSON object": spoil("model.safetensors", struct.pack("<Q", 2) + b"[]"),
    "lacks 2 of its 2 weight files, such as 1.safetensors": shards,
    "only as pickle files": only_a_pickle,
    "has no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "lists no weight files": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "../../secret.safetensors"}}'
        ),
    ),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_model_is_listed_with_the_reason(tmp_path, reason):
    folder = save_model(tmp_path / "m")
    DAMAGES[reason](folder)
    (model,) = look(folders=[str(tmp_path)], cache=tmp_path / "none").models
    assert reason in model.problem
    assert model.folder == str(folder)


@pytest.mark.parametrize("listed", ["x" * 4000, ["a"], 7, "a/b"], ids=lambda n: str(n)[:9])
def test_an_index_of_names_that_no_file_has_is_damage(tmp_path, listed):
    folder = save_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": listed}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (model,) = look(folders=[str(tmp_path)], cache=tmp_path / "none").models
    assert "lists no weight files" in model.problem


@pytest.mark.skipif(sys.platform == "win32", reason="needs a device that never ends")
def test_settings_that_never_end_are_not_read(tmp_path):
    folder = save_model(tmp_path / "m")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/dev/zero")
    assert "no ordinary one" in examine(folder, "m", "m").problem


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": {"dtype": 1, "shape": [1], "data_offsets": [0, 4]}},
        {"a": [1]},
    ],
    ids=str,
)
def test_a_header_of_wrong_types_is_damage(tmp_path, header):
    folder = save_model(tmp_path)
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(4)
    (folder / "model.safetensors").write_bytes(data)
    assert "damaged or cut short" in looked_at(folder).problem


RELEASE = SaeRelease(
    name="r",
    repository="some/saes",
    model="some/model",
    format="SAELens",
    site="blocks.{layer}.hook_resid_pre",
    layers=(0, 1, 2),
    d_in=4,
    path="layer_{layer}",
)


def test_the_cache_is_listed_by_hub_id_and_saes_are_not_models(tmp_path):
    save_model(save_in_cache(tmp_path, "some/model"))
    saes = save_model(save_in_cache(tmp_path, "some/saes"))
    (saes / "layer_0").mkdir()
    (saes / "layer_2").write_bytes(b"a file")
    (save_in_cache(tmp_path, "no/config") / "README.md").write_text("words")
    found = look(cache=tmp_path, releases=[RELEASE])
    assert [(m.source, m.name, m.problem) for m in found.models] == [
        ("some/model", "some/model", "")
    ]
    assert found.folders["some/saes"] == str(saes)
    assert found.saes == {"r": (0, 2)}
    assert found.model("some/model") is not None
    assert found.model("not/here") is None


def test_the_snapshot_of_the_main_branch_is_the_one(tmp_path):
    old = save_in_cache(tmp_path, "some/model", "c" * 40, ref="")
    save_model(old)
    save_model(save_in_cache(tmp_path, "some/model", "d" * 40))
    (model,) = look(cache=tmp_path).models
    assert model.folder.endswith("d" * 40)


def test_a_snapshot_that_its_hub_id_does_not_lead_to_opens_by_its_folder(tmp_path):
    folder = save_model(save_in_cache(tmp_path, "some/model", ref="draft"))
    (model,) = look(cache=tmp_path).models
    assert (model.name, model.source) == ("some/model", str(folder))


def test_without_a_cache_there_is_nothing_and_no_error(tmp_path):
    assert look(cache=tmp_path / "none").models == ()


def test_chosen_folders_are_searched_a_few_levels_deep(tmp_path):
    for place in ("a", "x/b", "x/y/c", "x/y/z/too-deep/d", ".hidden/e"):
        save_model(tmp_path / "all" / place)
    save_model(tmp_path / "one")
    folders = [str(tmp_path / "all"), str(tmp_path / "one"), str(tmp_path / "gone")]
    names = [model.name for model in look(folders=folders, cache=tmp_path / "none").models]
    assert names == ["a", "b", "c", "one"]


def test_recent_ones_stand_first_and_what_is_gone_says_so(tmp_path):
    recent = save_model(tmp_path / "z-recent")
    for name in ("a", "b"):
        save_model(tmp_path / "all" / name)
    sources = (str(recent), SPECIMEN, str(tmp_path / "all" / "b"), "/gone")
    found = look([str(tmp_path / "all")], recent=sources, cache=tmp_path / "none").models
    assert [m.name for m in found] == ["z-recent", "b", "/gone", "a"]
    assert [m.is_recent for m in found] == [True, True, True, False]
    assert "no longer there" in found[2].problem


def test_a_config_of_another_shape_does_not_stop_the_list(tmp_path):
    save_model(tmp_path / "a", {**CONFIG, "num_attention_heads": 0, "vocab_size": None})
    (model,) = look([str(tmp_path)], cache=tmp_path / "none").models
    assert model.shape == ModelShape(2, 8, 0, 2, 0, 0)
