import json

import numpy as np
import pytest
import torch
from reference import (
    CPU,
    D_IN,
    N_FEATURES,
    assert_matches,
    doubles,
    jumprelu,
    random_weights,
    tokens,
)
from safetensors.torch import save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.gemma_scope_2 import outline, read
from microscope.engine.saes.loading import find_saes

RESID = "resid_post/layer_12_width_16k_l0_medium"
MLP_IN, MLP_OUT = (
    f"model.layers.12.{norm}_feedforward_layernorm.output" for norm in ("pre", "post")
)


def save(folder, weights, config=None, **changed):
    names = ["w_enc", "b_enc", "w_dec", "b_dec", "threshold"]
    tensors = {name: torch.from_numpy(weights[name].copy()) for name in names} | changed
    folder.mkdir(parents=True)
    save_file(tensors, str(folder / "params.safetensors"))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def config(point_in, point_out=None):
    return {
        "architecture": "jump_relu",
        "model_name": "google/gemma-3-270m",
        "hf_hook_point_in": point_in,
        "hf_hook_point_out": point_out or point_in,
        "affine_connection": False,
    }


def formulas(x, w, with_skip=False):
    x, w = x.astype(np.float64), doubles(w)
    f = jumprelu(x @ w["w_enc"] + w["b_enc"], w["threshold"])
    return f, f @ w["w_dec"] + w["b_dec"] + (x @ w["skip"] if with_skip else 0)


@pytest.mark.parametrize("settings", [None, config("model.layers.12.output")])
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, settings):
    w = random_weights()
    sae = read(save(tmp_path / RESID, w, settings), CPU)
    assert sae.card.site == "blocks.12.hook_resid_post"
    assert_matches(sae, tokens(), *formulas(tokens(), w), w["w_dec"])


@pytest.mark.parametrize("is_affine", [False, True])
def test_a_transcoder_adds_the_affine_map_of_its_input(tmp_path, is_affine):
    w = random_weights(d_out=6)
    skip = {"affine_skip_connection": torch.from_numpy(w["skip"])} if is_affine else {}
    folder = tmp_path / "transcoder_all/layer_12_width_16k_l0_small_affine"
    sae = read(save(folder, w, config(MLP_IN, MLP_OUT), **skip), CPU)
    assert_matches(sae, tokens(), *formulas(tokens(), w, is_affine), w["w_dec"])
    card = sae.card
    assert (card.site, card.site_out) == ("blocks.12.mlp.hook_in", "blocks.12.hook_mlp_out")
    assert (card.d_in, card.d_out) == (D_IN, 6)


def test_an_sae_may_have_the_affine_map_too(tmp_path):
    w = random_weights()
    folder = tmp_path / f"{RESID}_affine"
    save(folder, w, affine_skip_connection=torch.from_numpy(w["skip"]))
    sae = read(folder, CPU)
    assert_matches(sae, tokens(), *formulas(tokens(), w, True), w["w_dec"])
    assert (sae.card.site_out, sae.sites) == ("", ("blocks.12.hook_resid_post",) * 2)


@pytest.mark.parametrize(
    ("folder", "site", "site_out"),
    [
        (RESID, "blocks.12.hook_resid_post", ""),
        ("resid_post_all/layer_0_width_262k_l0_big", "blocks.0.hook_resid_post", ""),
        (f"{RESID}_seed_1", "blocks.12.hook_resid_post", ""),
        ("attn_out/layer_7_width_1m_l0_small", "blocks.7.attn.hook_z", ""),
        ("mlp_out_all/layer_7_width_16k_l0_big", "blocks.7.hook_mlp_out", ""),
        (
            "transcoder/layer_7_width_16k_l0_big_affine",
            "blocks.7.mlp.hook_in",
            "blocks.7.hook_mlp_out",
        ),
    ],
)
def test_without_settings_the_folders_say_which_site_is_read(tmp_path, folder, site, site_out):
    card = outline(save(tmp_path / folder, random_weights()))
    assert (card.site, card.site_out) == (site, site_out)
    assert (card.d_in, card.n_features) == (D_IN, N_FEATURES)


@pytest.mark.parametrize(
    ("point", "site"),
    [
        ("model.language_model.layers.3.output", "blocks.3.hook_resid_post"),
        ("model.layers.3.self_attn.o_proj.input", "blocks.3.attn.hook_z"),
        ("model.layers.3.post_feedforward_layernorm.output", "blocks.3.hook_mlp_out"),
        ("model.layers.3.self_attn.output", "module:model.layers.3.self_attn.output"),
    ],
)
def test_the_settings_hook_point_goes_before_the_folders_names(tmp_path, point, site):
    folder = save(tmp_path / RESID, random_weights(), config(point))
    assert outline(folder).site == site


def test_every_sae_of_a_repository_is_found_in_order(tmp_path):
    names = [f"resid_post_all/layer_{layer}_width_16k_l0_small" for layer in (2, 10)]
    for name in names:
        save(tmp_path / name, random_weights())
    assert find_saes(str(tmp_path)) == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (config("model.layers.3"), "hook point"),
        (config("../../etc.output"), "hook point"),
        (config("model.layers.3.output") | {"architecture": "crosscoder"}, "'crosscoder'"),
        ({"hf_hook_point_in": 7}, "hf_hook_point_in"),
        ([], "no JSON object"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, settings, words):
    folder = save(tmp_path / RESID, random_weights(), settings)
    with pytest.raises(SaeUnreadable, match=words):
        outline(folder)


def test_a_folder_of_another_name_and_no_settings_is_refused(tmp_path):
    with pytest.raises(SaeUnreadable, match="does not say what it reads"):
        outline(save(tmp_path / "downloads" / "one", random_weights()))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"w_enc": torch.ones(N_FEATURES, D_IN)}, r"\[20\]; .* ask for \[8\]"),
        ({"w_dec": torch.ones(D_IN, N_FEATURES)}, r"'w_dec' .* \[8, 20\]"),
        ({"w_dec": torch.ones(N_FEATURES, 3, D_IN)}, "2 dimensions"),
        ({"affine_skip_connection": torch.ones(D_IN)}, "affine_skip_connection"),
    ],
)
def test_swapped_and_foreign_shapes_are_refused(tmp_path, changed, words):
    folder = save(tmp_path / RESID, random_weights(), **changed)
    with pytest.raises(SaeUnreadable, match=words):
        read(folder, CPU)
