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
    relu,
    tokens,
    top_k,
)
from safetensors.torch import save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.openmoss import outline, read
from microscope.engine.saes.transcoder import Transcoder

SITE = "blocks.15.hook_resid_post"
NORM, NORM_OUT = 3.5, 2.25
LAYOUTS = pytest.mark.parametrize("layout", ["linear", "matrices"])


def tensors_of(layout, w, *, has_threshold=True, norms=()):
    if layout == "linear":
        named = {
            "encoder.weight": w["w_enc"].T,
            "encoder.bias": w["b_enc"],
            "decoder.weight": w["w_dec"].T,
            "decoder.bias": w["b_dec"],
            "log_jumprelu_threshold": np.log(w["threshold"]),
        }
    else:
        named = {
            "W_E": w["w_enc"],
            "b_E": w["b_enc"],
            "W_D": w["w_dec"],
            "b_D": w["b_dec"],
            "activation_function.log_jumprelu_threshold": np.log(w["threshold"]),
        }
    named |= {f"dataset_average_activation_norm.{hook}": np.float32(a) for hook, a in norms}
    if not has_threshold:
        named = {name: array for name, array in named.items() if "threshold" not in name}
    return {name: torch.tensor(np.array(array, order="C")) for name, array in named.items()}


def save(folder, layout, w, *, has_threshold=True, norms=((SITE, NORM),), **changes):
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "sae_type": "sae",
        "hook_point_in": SITE,
        "hook_point_out": SITE,
        "d_model": D_IN,
        "expansion_factor": 2.5,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
    }
    if layout == "linear":
        del settings["sae_type"]
    (folder / "config.json").write_text(json.dumps(settings | changes))
    tensors = tensors_of(layout, w, has_threshold=has_threshold, norms=norms)
    save_file(tensors, str(folder / "sae_weights.safetensors"))
    return folder


def formulas(x, w, s=1.0, s_out=None, *, by_length=True):
    """Activations as they are in the scaled space, and the reconstruction."""
    x, w, s_out = x.astype(np.float64), doubles(w), s_out or s
    n = np.linalg.norm(w["w_dec"], axis=1) if by_length else 1.0
    u = (s * x) @ w["w_enc"] + w["b_enc"]
    f = relu(u) * (u * n > w["threshold"])
    return f, (f @ w["w_dec"] + w["b_dec"]) / s_out


@LAYOUTS
@pytest.mark.parametrize("by_length", [True, False])
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, layout, by_length):
    w, s = random_weights(), np.sqrt(D_IN) / NORM
    folder = save(tmp_path, layout, w, sparsity_include_decoder_norm=by_length)
    f, x_hat = formulas(tokens(), w, s, by_length=by_length)
    assert_matches(read(folder, CPU), tokens(), f, x_hat, w["w_dec"] / s)
    assert outline(folder).remark == ""


@LAYOUTS
def test_without_the_norm_nothing_is_scaled_and_that_is_remarked_upon(tmp_path, layout):
    w = random_weights()
    folder = save(tmp_path, layout, w, norms=())
    assert_matches(read(folder, CPU), tokens(), *formulas(tokens(), w), w["w_dec"])
    assert "factor" in outline(folder).remark


@LAYOUTS
@pytest.mark.parametrize("key", [SITE, "in"])
def test_the_norm_may_stand_in_the_settings(tmp_path, layout, key):
    w, s = random_weights(), np.sqrt(D_IN) / NORM
    given = {key: NORM, "out": NORM}
    folder = save(tmp_path, layout, w, norms=(), dataset_average_activation_norm=given)
    assert_matches(read(folder, CPU), tokens(), *formulas(tokens(), w, s), w["w_dec"] / s)


@pytest.mark.parametrize("mode", [None, "none", "inference"])
def test_activations_that_were_not_scaled_are_left_alone(tmp_path, mode):
    w = random_weights()
    folder = save(tmp_path, "matrices", w, norm_activation=mode)
    assert_matches(read(folder, CPU), tokens(), *formulas(tokens(), w), w["w_dec"])
    assert outline(folder).remark == ""


def test_token_wise_scaling_gives_every_token_the_same_length(tmp_path):
    w, x = random_weights(), tokens()
    folder = save(tmp_path, "matrices", w, norm_activation="token-wise")
    c = np.sqrt(D_IN) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    f, y = formulas(c * x, w)
    assert_matches(read(folder, CPU), x, f, y / c, w["w_dec"])


def test_top_k_ranks_by_the_length_written(tmp_path):
    w, wide = random_weights(), doubles(random_weights())
    folder = save(
        tmp_path,
        "matrices",
        w,
        has_threshold=False,
        norm_activation=None,
        act_fn="topk",
        top_k=5,
    )
    n = np.linalg.norm(wide["w_dec"], axis=1)
    h = top_k((tokens().astype(np.float64) @ wide["w_enc"] + wide["b_enc"]) * n, 5)
    x_hat = (h / n) @ wide["w_dec"] + wide["b_dec"]
    assert_matches(read(folder, CPU), tokens(), h / n, x_hat, w["w_dec"])
    card = outline(folder)
    assert card.architecture == "topk"


def test_a_relu_needs_no_threshold(tmp_path):
    w, wide = random_weights(), doubles(random_weights())
    folder = save(
        tmp_path, "matrices", w, has_threshold=False, norm_activation=None, act_fn="relu"
    )
    f = jumprelu(tokens().astype(np.float64) @ wide["w_enc"] + wide["b_enc"], 0)
    assert_matches(
        read(folder, CPU), tokens(), f, f @ wide["w_dec"] + wide["b_dec"], w["w_dec"]
    )


def test_a_transcoder_has_a_scale_for_each_of_its_sites(tmp_path):
    w = random_weights(d_out=6)
    hooks = "blocks.3.hook_resid_mid", "blocks.3.hook_mlp_out"
    folder = save(
        tmp_path,
        "matrices",
        w,
        norms=((hooks[0], NORM), (hooks[1], NORM_OUT)),
        hook_point_in=hooks[0],
        hook_point_out=hooks[1],
    )
    s, s_out = np.sqrt(D_IN) / NORM, np.sqrt(6) / NORM_OUT
    sae = read(folder, CPU)
    assert isinstance(sae, Transcoder)
    assert sae.sites == hooks
    f, y_hat = formulas(tokens(), w, s, s_out)
    assert_matches(sae, tokens(), f, y_hat, w["w_dec"] / s_out)


def test_it_is_found_from_its_file_its_folder_and_the_repository(tmp_path):
    folder = save(tmp_path / "0-OpenR1-Math-220k" / "L15R", "linear", random_weights())
    for source in (tmp_path, folder, folder / "config.json"):
        assert find_saes(str(source)) == [str(folder)]


@pytest.mark.parametrize("kind", ["crosscoder", "clt", "lorsa", "molt"])
def test_other_kinds_of_dictionary_are_refused_by_name(tmp_path, kind):
    with pytest.raises(SaeUnreadable, match=kind):
        outline(save(tmp_path, "matrices", random_weights(), sae_type=kind))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"act_fn": "batchtopk"}, "'batchtopk'"),
        ({"act_fn": "topk"}, "the k None"),
        ({"act_fn": "jumprelu"}, "lacks the threshold"),
        ({"norm_activation": "batch-wise", "act_fn": "relu"}, "'batch-wise'"),
        ({"hook_point_in": "here"}, "'here'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, changes, words):
    folder = save(tmp_path, "matrices", random_weights(), has_threshold=False, **changes)
    with pytest.raises(SaeUnreadable) as refusal:
        read(folder, CPU)
    assert words in str(refusal.value)


def test_a_gated_linear_encoder_is_refused(tmp_path):
    folder = save(tmp_path, "matrices", random_weights())
    tensors = tensors_of("matrices", random_weights()) | {"W_E_glu": torch.zeros(2)}
    save_file(tensors, str(folder / "sae_weights.safetensors"))
    with pytest.raises(SaeUnreadable, match="gated linear"):
        outline(folder)


@LAYOUTS
def test_swapped_matrices_are_refused(tmp_path, layout):
    w = random_weights()
    w["w_dec"] = w["w_dec"].T.copy()
    with pytest.raises(SaeUnreadable, match="shape"):
        read(save(tmp_path, layout, w, norm_activation=None), CPU)


def test_the_number_of_features_is_that_of_the_tensors(tmp_path):
    card = outline(save(tmp_path, "linear", random_weights()))
    assert (card.n_features, card.d_in, card.site) == (N_FEATURES, D_IN, SITE)
