"""The list of published SAEs and starter models is whole and can be searched."""

import json

import pytest

from microscope.core.errors import InstallationBroken
from microscope.core.sites import Site
from microscope.storage.releases import (
    is_wanted,
    load_releases,
    model_part,
    sae_part,
    search,
    starter_job,
)


@pytest.fixture(scope="module")
def shipped():
    return load_releases()


def test_every_release_can_be_fetched_and_named(shipped):
    names = [release.name for release in shipped.releases]
    assert len(set(names)) == len(names) > 100
    for release in shipped.releases:
        assert release.layers == tuple(sorted(set(release.layers)))
        assert bool(release.path) != bool(release.paths)
        for values in (release.paths, release.l0):
            assert not values or len(values) == len(release.layers)
        for layer in release.layers:
            Site.parse(release.site_of(layer))
            assert not set("{}") & set(release.path_of(layer))
        assert release.d_in > 0


def test_a_path_has_its_layer_and_its_l0(shipped):
    release = shipped.release("gemma-scope-2b-pt-res 16k")
    assert release.path_of(0) == "layer_0/width_16k/average_l0_105"
    assert release.size_bytes(2) == 2 * 2 * 2304 * 16384 * 4
    with pytest.raises(ValueError, match="not in tuple"):
        release.path_of(99)
    with pytest.raises(KeyError):
        shipped.release("nothing")


def test_the_centred_releases_are_marked(shipped):
    marked = {release.name for release in shipped.releases if release.is_centred}
    assert marked == {"gpt2-small-res-jb", "gpt2-small-mlp-tm"}


def test_the_starters_come_with_saes_of_their_own_model(shipped):
    names = [starter.name for starter in shipped.starters]
    assert names == [
        "GPT-2 small",
        "Pythia 70M",
        "Gemma 3 270M",
        "Gemma 3 1B",
        "Gemma 2 2B",
        "Qwen 3 1.7B",
        "Llama 3.1 8B",
    ]
    for starter in shipped.starters:
        release = shipped.release(starter.release)
        assert release.model == starter.model
        assert set(starter.layers) <= set(release.layers)
        assert "hook_resid" in release.site
        assert release.d_in == starter.d_model
        job = starter_job(starter, release)
        assert [part.repository for part in job.parts] == [starter.model, release.repository]


@pytest.mark.parametrize(
    "starter",
    load_releases().starters,
    ids=lambda starter: starter.model,
)
def test_the_parameters_of_a_starter_are_those_of_its_shape(starter):
    """Embeddings and attention follow from the shape, and the rest is the MLP and small."""
    shape = starter.shape
    attention = 2 * shape.d_model * shape.head_dim * (shape.n_heads + shape.n_kv_heads)
    known = shape.n_vocabulary * shape.d_model + shape.n_layers * attention
    assert 0.2 * starter.n_parameters < known < starter.n_parameters


def test_every_word_of_a_search_has_to_occur(shipped):
    def found(words):
        return {release.name for release in search(shipped.releases, words)}

    assert "gpt2-small-res-jb" in found("JBLOOM resid_pre")
    assert found("gpt2 gemma") == set()
    assert found("") == {release.name for release in shipped.releases}
    assert "gemma-scope-2b-pt-res 16k" in found("gemma-2-2b CC-BY resid")


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("tokenizer.model", True),
        ("config.json", True),
        ("pytorch_model.bin", False),
        ("original/model.safetensors", False),
        ("consolidated.safetensors", False),
        ("model.gguf", False),
        ("modeling.py", False),
    ],
)
def test_of_a_model_only_what_can_be_opened_is_fetched(name, is_taken):
    assert is_wanted(name, model_part("a/b")) is is_taken


def test_of_an_sae_the_files_of_its_layer_are_fetched(shipped):
    part = sae_part(shipped.release("gpt2-small-hook-z-kk"), [3])
    path = shipped.release("gpt2-small-hook-z-kk").path_of(3)
    assert is_wanted(path, part)
    assert is_wanted(path.removesuffix(".pt") + "_cfg.json", part)
    assert not is_wanted(shipped.release("gpt2-small-hook-z-kk").path_of(4), part)
    deep = sae_part(shipped.release("llama_scope_lxr_8x"), [1])
    assert is_wanted("Llama3_1-8B-Base-L1R-8x/checkpoints/final.safetensors", deep)
    assert not is_wanted("Llama3_1-8B-Base-L11R-8x/checkpoints/final.safetensors", deep)


@pytest.mark.parametrize("text", [None, "{", json.dumps({"version": 1, "starters": 3})])
def test_a_list_that_is_missing_or_damaged_is_a_broken_installation(tmp_path, text):
    path = tmp_path / "releases.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InstallationBroken, match="Install Microscope again"):
        load_releases(path)
