"""Files that are damaged, or made to harm: each is refused in one sentence, and nothing runs.

All are opened with the address space bounded, so that what asks for much memory fails.
"""

import json
import math
import os

import pytest
import torch
from bounded import ROOM_BYTES, refusal
from hostile_files import (
    NPZ,
    PICKLES,
    SAFETENSORS,
    TERABYTE,
    Harmful,
    a_terabyte_of_nothing,
    a_web_page,
    another_magic,
    cut_in_half,
    empty,
    saved,
)
from published_files import (
    LAYOUTS,
    D,
    N,
    dictionary_learning,
    found_in,
    gemma_scope,
    goodfire,
    numbers,
    openai,
    saelens,
    write_json,
    write_tensors,
)
from safetensors.torch import load_file
from tiny_models import open_tiny_model

from microscope.engine.saes import named_tensors
from microscope.engine.saes.loading import find_saes, open_sae

pytestmark = pytest.mark.timeout(120)

EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
WITH_SETTINGS = pytest.mark.parametrize(
    "layout",
    [layout for layout in LAYOUTS if str(layout.settings).endswith(".json")],
    ids=lambda layout: layout.name,
)
PICKLED = pytest.mark.parametrize(
    "layout",
    [layout for layout in LAYOUTS if layout.weights.endswith((".pt", ".pth"))],
    ids=lambda layout: layout.name,
)
posix_only = pytest.mark.skipif(os.name == "nt", reason="there are no such files")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return open_tiny_model("gpt2", tmp_path_factory)


@pytest.fixture
def refused(tmp_path, model, monkeypatch):
    """Open a path and use what it holds; returns the sentence."""
    monkeypatch.chdir(tmp_path)

    def sentence(path, room_bytes=ROOM_BYTES):
        said = refusal(tmp_path, lambda: use(open_sae(str(path), model)), room_bytes)
        assert not list(tmp_path.rglob("sentinel")), "code from the file was run"
        return said

    return sentence


def use(sae):
    """Encode, decode and choose features, as a run does."""
    residuals = {site: numbers(2, 5, D)[0] for site in (*sae.sites, *sae.outputs)}
    strongest = sae.read(residuals, slice(None), 5)
    sae.chosen_by_output(torch.tensor([0, 1]))
    return strongest


def in_every(table):
    return pytest.mark.parametrize("spoil", table.values(), ids=table.keys())


@EVERY_LAYOUT
def test_each_layout_opens_before_it_is_spoilt(layout, tmp_path, model):
    path = layout.write(tmp_path)
    sae = open_sae(str(path), model)
    assert (sae.card.n_features, sae.card.d_in) == (N, D)
    assert math.isfinite(use(sae).norm.sum())
    assert (use(sae).n_active > 0).any()
    assert found_in(tmp_path, layout.weights).is_file()


@EVERY_LAYOUT
@pytest.mark.parametrize(
    "spoil", [empty, cut_in_half, another_magic, a_web_page, a_terabyte_of_nothing]
)
def test_weights_that_are_none_are_refused(layout, spoil, tmp_path, refused):
    path = layout.write(tmp_path)
    weights = found_in(tmp_path, layout.weights)
    spoil(weights)
    # The library maps a safetensors file before it looks at it, which takes no memory.
    is_mapped = spoil is a_terabyte_of_nothing and weights.suffix == ".safetensors"
    refused(path, 2 * TERABYTE if is_mapped else ROOM_BYTES)


@EVERY_LAYOUT
@pytest.mark.parametrize("is_mapped", [False, True], ids=["read", "mapped"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(
    layout, value, is_mapped, tmp_path, refused, monkeypatch
):
    if is_mapped:
        monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    path = layout.write(tmp_path)
    tensors = tensors_in(found_in(tmp_path, layout.weights))
    tensors[layout.encoder][3, 3] = value
    write_tensors(found_in(tmp_path, layout.weights), tensors)
    assert "not finite" in refused(path)


@EVERY_LAYOUT
@pytest.mark.parametrize("change", ["turned", "missing", "whole numbers", "empty", "flat"])
def test_an_encoder_that_is_none_is_refused(layout, change, tmp_path, refused):
    path = layout.write(tmp_path)
    tensors = tensors_in(found_in(tmp_path, layout.weights))
    encoder = tensors.pop(layout.encoder)
    changed = {
        "turned": encoder.T.contiguous(),
        "whole numbers": encoder.int(),
        "empty": encoder[:0],
        "flat": encoder.flatten(),
    }
    if change in changed:
        tensors[layout.encoder] = changed[change]
    write_tensors(found_in(tmp_path, layout.weights), tensors)
    refused(path)


def tensors_in(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays}
    return torch.load(path, weights_only=True)


@posix_only
@EVERY_LAYOUT
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to nothing", "loop"])
def test_something_else_in_the_weights_place_is_refused(layout, kind, tmp_path, refused):
    path = layout.write(tmp_path)
    weights = found_in(tmp_path, layout.weights)
    weights.unlink()
    put_in_place(weights, kind)
    refused(path)


def put_in_place(path, kind):
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name}.get(kind, "/no/such/file"))


@posix_only
def test_what_a_link_leads_to_is_not_told(tmp_path, refused):
    secret = tmp_path / "secret.txt"
    secret.write_text("the password is swordfish")
    for name in ("cfg.json", "sae_weights.safetensors"):
        folder = saelens(tmp_path / name)
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        assert "swordfish" not in refused(folder)


@in_every(SAFETENSORS)
def test_a_hostile_safetensors_file_is_refused(spoil, tmp_path, refused):
    spoil(saelens(tmp_path) / "sae_weights.safetensors")
    refused(tmp_path)


@in_every(NPZ)
def test_a_hostile_archive_of_arrays_is_refused(spoil, tmp_path, refused):
    path = gemma_scope(tmp_path)
    spoil(path)
    refused(path)
    names = {"W_enc.npy", "W_dec.npy"}
    assert not [found for found in tmp_path.parent.rglob("*.npy") if found.name in names]


@in_every(PICKLES)
def test_a_hostile_file_of_torch_save_is_refused(spoil, tmp_path, refused):
    path = openai(tmp_path)
    spoil(path)
    refused(path)


@PICKLED
def test_no_layout_runs_code_from_its_file(layout, tmp_path, refused):
    path = layout.write(tmp_path)
    saved(lambda good, sentinel: good | {"harm": Harmful(sentinel)})(
        found_in(tmp_path, layout.weights)
    )
    assert "run code" in refused(path)


NO_SETTINGS = {
    "empty": b"",
    "no JSON": b"architecture: standard",
    "not UTF-8": b'{"architecture": "\xff\xfe"}',
    "UTF-16": '{"architecture": "standard"}'.encode("utf-16"),
    "a list": b"[1, 2]",
    "null": b"null",
    "nested very deep": b'{"a":' * 200_000,
    "a list nested very deep": b"[" * 200_000 + b"]" * 200_000,
    "a number of 100,000 digits": b'{"d_in": ' + b"9" * 100_000 + b"}",
    "cut short": b'{"architecture": "stan',
    "more than one object": b"{}{}",
    "a zero byte": b'{"architecture": "standard"\0}',
}


@WITH_SETTINGS
@pytest.mark.parametrize("content", NO_SETTINGS.values(), ids=NO_SETTINGS.keys())
def test_settings_that_are_none_are_refused(layout, content, tmp_path, refused):
    path = layout.write(tmp_path)
    settings = found_in(tmp_path, layout.settings)
    settings.write_bytes(content)
    assert str(settings) in refused(path)


@WITH_SETTINGS
def test_settings_of_a_terabyte_are_refused(layout, tmp_path, refused):
    path = layout.write(tmp_path)
    a_terabyte_of_nothing(found_in(tmp_path, layout.settings))
    assert "too large" in refused(path)


@WITH_SETTINGS
def test_settings_that_say_something_twice_are_refused(layout, tmp_path, refused):
    path = layout.write(tmp_path)
    settings = found_in(tmp_path, layout.settings)
    content = settings.read_text()
    key = next(iter(json.loads(content)))
    settings.write_text(content[:-1] + f', "{key}": 7}}')
    assert f"'{key}'" in refused(path)


@WITH_SETTINGS
@pytest.mark.parametrize("value", [[], {}, -1, 1e308, math.nan, True, "x" * 1_000_000])
def test_settings_of_another_kind_are_refused(layout, value, tmp_path, refused):
    path = layout.write(tmp_path)
    settings = found_in(tmp_path, layout.settings)
    before = json.loads(settings.read_text())
    settings.write_text(json.dumps(dict.fromkeys(before, value)))
    refused(path)


SIZES = (0, -1, 1 << 31, 1 << 62, 1 << 70, 10**300, 2.5, 1e12, math.inf, math.nan, None, "32")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", ["d_in", "d_sae"])
def test_sizes_that_no_sae_has_are_refused(key, size, tmp_path, refused):
    change_settings(saelens(tmp_path), **{key: size})
    refused(tmp_path)


@pytest.mark.parametrize("k", [0, -1, N + 1, 1 << 40, 1 << 70, 2.5, math.nan, None])
def test_a_k_that_no_sae_has_is_refused(k, tmp_path, refused):
    change_settings(saelens(tmp_path), architecture="topk", k=k)
    refused(tmp_path)


@pytest.mark.parametrize("threshold", [math.nan, math.inf, 1e39])
def test_a_threshold_that_is_no_number_is_refused(threshold, tmp_path, refused):
    layout = next(layout for layout in LAYOUTS if layout.name == "llama_scope")
    layout.write(tmp_path)
    change_settings(tmp_path, "hyperparams.json", jump_relu_threshold=threshold)
    refused(tmp_path)


@pytest.mark.parametrize("norm", [0, -1, math.nan, math.inf, 1e-320])
def test_a_mean_norm_that_is_none_is_refused(norm, tmp_path, refused):
    layout = next(layout for layout in LAYOUTS if layout.name == "llama_scope")
    layout.write(tmp_path)
    norms = {"in": norm, "out": norm}
    change_settings(tmp_path, "hyperparams.json", dataset_average_activation_norm=norms)
    refused(tmp_path)


NUMBERS = (math.nan, math.inf, 1e300, 10**400)


@pytest.mark.parametrize(
    ("name", "number"),
    [  # a threshold below 0 means that there is none
        *(("threshold", number) for number in NUMBERS),
        *(("norm_factor", number) for number in (*NUMBERS, 0, -1, -math.inf)),
    ],
)
def test_a_number_in_a_pickle_that_no_float32_holds_is_refused(name, number, tmp_path, refused):
    folder = dictionary_learning(tmp_path)
    tensors = tensors_in(folder / "ae.pt")
    tensors["b_dec"] = tensors["bias"]
    backup = {"ae": tensors | {"threshold": number}, "norm_factor": number}
    torch.save(backup if name == "norm_factor" else backup["ae"], folder / "ae.pt")
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    write_json(folder / "config.json", {"trainer": trainer | {"dict_class": "BatchTopKSAE"}})
    assert f"the {name}" in refused(folder)


SITES = (
    "",
    "../../../etc/passwd",
    "blocks.-1.hook_resid_post",
    "blocks.99999.hook_resid_post",
    "blocks.9999999999999999999999.hook_resid_post",
    "blocks.1.hook_resid_post\0.x",
    "blocks.1.hook_resid_post\n\x1b[31mAll is well.",
    "blocks.1.__class__",
    "blocks.١.hook_resid_post",
    "module:__init__.__globals__",
    "transformer.h.1.attn.forward.__globals__",
    "x" * 1_000_000,
    "a." * 500_000 + "b",
    "blocks." + "1" * 100_000 + ".hook_resid_post",
)


@pytest.mark.parametrize("site", SITES, ids=[ascii(site[:30]) for site in SITES])
def test_a_site_that_is_no_place_in_the_model_is_refused(site, tmp_path, refused):
    change_settings(saelens(tmp_path), hook_name=site)
    refused(tmp_path)


def change_settings(folder, name="cfg.json", **changes):
    write_json(folder / name, json.loads((folder / name).read_text()) | changes)


YAML = {
    "a tag that makes an object": "!!python/object/apply:os.mkdir [sentinel]",
    "a tag in a key": "feature_input_hook: !!python/object/apply:os.mkdir [sentinel]",
    "aliases of aliases": "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "an alias of itself": "a: &a [*a]",
    "nested very deep": "[" * 20_000,
    "nested very deep without brackets": "- " * 60_000,
    "a date in a name's place": "feature_input_hook: 2020-01-01\nfeature_output_hook: 1",
    "not UTF-8": b"\xff\xfe\xfa",
    "control characters": "feature_input_hook: \x07",
    "a name of 200,000 letters": f"feature_input_hook: {'x' * 200_000}\nfeature_output_hook: x",
    "names that lead elsewhere": "feature_input_hook: ../../x\nfeature_output_hook: ../x",
    "far too long": "# x\n" * 100_000,
}


@pytest.mark.parametrize("content", YAML.values(), ids=YAML.keys())
@pytest.mark.parametrize("name", ["circuit_tracer", "cross_layer"])
def test_hostile_yaml_is_refused(name, content, tmp_path, refused):
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    path = layout.write(tmp_path)
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "config.yaml").write_bytes(raw)
    refused(path)


@posix_only
def test_names_of_files_that_no_screen_should_show_are_made_plain(tmp_path, refused):
    folder = tmp_path / "layers.1\n\x1b[2J\u202e"
    folder.mkdir()
    saelens(folder)
    empty(folder / "sae_weights.safetensors")
    refused(folder)


@pytest.mark.parametrize(
    "source", ["x" * 5000, "/" + "x/" * 3000, "a\0b", "~no-such-user-here/sae"]
)
def test_a_path_that_no_system_has_is_refused(source, model):
    refusal("", lambda: open_sae(source, model))
    refusal("", lambda: find_saes(source))


@posix_only
def test_links_in_a_circle_do_not_hold_up_a_search(tmp_path):
    saelens(tmp_path / "sae")
    (tmp_path / "sae" / "again").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert find_saes(str(tmp_path)) == [str(tmp_path / "sae")]


def test_a_search_passes_over_what_cannot_be_opened(tmp_path):
    saelens(tmp_path / "good")
    for spoil in (NPZ["a zip bomb"], NPZ["encrypted members"], empty):
        spoil(gemma_scope(tmp_path / spoil.__name__))
    PICKLES["an entry that would run code"](goodfire(tmp_path / "harm"))
    assert str(tmp_path / "good") in find_saes(str(tmp_path))
    assert not list(tmp_path.rglob("sentinel"))
