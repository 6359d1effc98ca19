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
    random_weights,
    relu,
    tokens,
    top_k,
)
from safetensors.torch import load_file, save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import named_tensors
from microscope.engine.saes.llama_scope import outline, read
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.transcoder import Transcoder

A_IN, A_OUT, THRESHOLD = 3.5, 2.25, 1.25
SITE = "blocks.15.hook_resid_post"


def save(folder, weights, **changes):
    """The published layout: linear layers in bfloat16, unless a test needs exact numbers."""
    (folder / "checkpoints").mkdir(parents=True)
    settings = {
        "hook_point_in": SITE,
        "hook_point_out": SITE,
        "d_model": D_IN,
        "d_sae": N_FEATURES,
        "expansion_factor": N_FEATURES // D_IN,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "act_fn": "jumprelu",
        "jump_relu_threshold": THRESHOLD,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": A_IN, "out": A_IN},
        "sparsity_include_decoder_norm": True,
        "use_glu_encoder": False,
        "top_k": 4,
    }
    (folder / "hyperparams.json").write_text(json.dumps(settings | changes))
    (folder / "lm_config.json").write_text("{}")
    tensors = {
        "encoder.weight": torch.from_numpy(weights["w_enc"].T.copy()),
        "encoder.bias": torch.from_numpy(weights["b_enc"]),
        "decoder.weight": torch.from_numpy(weights["w_dec"].T.copy()),
        "decoder.bias": torch.from_numpy(weights["b_dec"]),
    }
    save_file(tensors, str(folder / "checkpoints" / "final.safetensors"))
    return folder


def scales(w, a_in, a_out):
    d_in, d_out = w["w_enc"].shape[0], w["w_dec"].shape[1]
    return np.sqrt(d_in) / a_in, np.sqrt(d_out) / a_out


def formulas(x, w, a_in=A_IN, a_out=A_IN, *, subtracts=False):
    """Activations in units of the stream, and the reconstruction."""
    x, w = x.astype(np.float64), doubles(w)
    s_in, s_out = scales(w, a_in, a_out)
    n = np.linalg.norm(w["w_dec"], axis=1)
    x1 = s_in * x - (w["b_dec"] if subtracts else 0)
    u = x1 @ w["w_enc"] + w["b_enc"]
    f = u * (u * n > THRESHOLD * s_out)
    return f * n / s_out, (f @ w["w_dec"] + w["b_dec"]) / s_out


def assert_is(sae, x, f, x_hat):
    """The formulas' activations are in the stream's units already: rows have length 1."""
    assert sae.card.is_folded
    assert_matches(sae, x, f, x_hat, np.eye(N_FEATURES))


def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "Llama3_1-8B-Base-L15R-8x", w), CPU)
    assert_is(sae, tokens(), *formulas(tokens(), w))
    assert (sae.card.site, sae.card.site_out) == (SITE, "")
    assert sae.card.architecture == "jumprelu"
    assert sae.card.remark == ""


def test_raw_activations_are_the_folded_ones_over_the_length_of_their_rows(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "a", w), CPU)
    wide = doubles(w)
    s = scales(wide, A_IN, A_IN)[0]
    u = (s * tokens().astype(np.float64)) @ wide["w_enc"] + wide["b_enc"]
    n = np.linalg.norm(wide["w_dec"], axis=1) / s
    raw = u * (u * n > THRESHOLD)
    np.testing.assert_allclose(
        sae.encode(torch.from_numpy(tokens())).numpy() / n, raw, rtol=1e-4, atol=1e-5
    )


def test_a_topk_in_name_with_a_threshold_is_a_jumprelu(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "a", w, act_fn="topk"), CPU)
    assert_is(sae, tokens(), *formulas(tokens(), w))


def test_a_topk_without_a_threshold_ranks_by_the_length_written(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "a", w, act_fn="topk", jump_relu_threshold=0.0), CPU)
    wide = doubles(w)
    s = scales(wide, A_IN, A_IN)[0]
    n = np.linalg.norm(wide["w_dec"], axis=1)
    u = (s * tokens().astype(np.float64)) @ wide["w_enc"] + wide["b_enc"]
    h = top_k(u * n, 4)
    x_hat = ((h / n) @ wide["w_dec"] + wide["b_dec"]) / s
    encoded = sae.encode(torch.from_numpy(tokens()))
    assert ((encoded > 0).sum(1) <= 4).all()
    np.testing.assert_allclose(
        sae.decode(encoded, torch.from_numpy(tokens())).numpy(), x_hat, rtol=1e-4, atol=1e-5
    )


def test_the_decoder_bias_is_subtracted_where_the_settings_say_so(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "a", w, apply_decoder_bias_to_pre_encoder=True), CPU)
    assert_is(sae, tokens(), *formulas(tokens(), w, subtracts=True))


def test_an_sae_without_a_decoder_bias_has_none(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "a", w, use_decoder_bias=False), CPU)
    w["b_dec"][:] = 0
    assert_is(sae, tokens(), *formulas(tokens(), w))


def test_a_relu_has_no_threshold(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / "a", w, act_fn="relu", norm_activation="none"), CPU)
    wide = doubles(w)
    f = relu(tokens().astype(np.float64) @ wide["w_enc"] + wide["b_enc"])
    assert_matches(sae, tokens(), f, f @ wide["w_dec"] + wide["b_dec"], w["w_dec"])
    assert sae.card.architecture == "standard"


@pytest.mark.parametrize("d_out", [D_IN, 6])
def test_a_transcoder_has_a_scale_for_each_of_its_sites(tmp_path, d_out):
    w = random_weights(d_out=d_out)
    changes = {
        "hook_point_in": "blocks.15.ln2.hook_normalized",
        "hook_point_out": "blocks.15.hook_mlp_out",
        "dataset_average_activation_norm": {"in": A_IN, "out": A_OUT},
    }
    sae = read(save(tmp_path / "Llama3_1-8B-Base-L15TC-8x", w, **changes), CPU)
    assert isinstance(sae, Transcoder)
    assert_is(sae, tokens(), *formulas(tokens(), w, A_IN, A_OUT))
    assert sae.sites == ("blocks.15.ln2.hook_normalized", "blocks.15.hook_mlp_out")


def test_mapped_bfloat16_weights_are_computed_with_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    w = random_weights()
    w = {n: torch.from_numpy(a).bfloat16().float().numpy() for n, a in w.items()}
    folder = save(tmp_path / "a", w)
    path = folder / "checkpoints" / "final.safetensors"
    save_file({n: t.bfloat16() for n, t in load_file(path).items()}, str(path))
    sae = read(folder, CPU)
    assert sae.w_enc.dtype == sae.w_dec.dtype == torch.bfloat16
    assert_is(sae, tokens(), *formulas(tokens(), w))


def test_it_is_found_from_its_file_its_folder_and_the_repository(tmp_path):
    folder = save(tmp_path / "repo" / "Llama3_1-8B-Base-L15R-8x", random_weights())
    weights = folder / "checkpoints" / "final.safetensors"
    for source in (tmp_path, folder, folder / "hyperparams.json", weights):
        assert find_saes(str(source)) == [str(folder)]


def test_a_missing_norm_is_remarked_upon(tmp_path):
    card = outline(save(tmp_path, random_weights(), dataset_average_activation_norm=None))
    assert "factor" in card.remark


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hook_point_in": "../../etc"}, "'../../etc'"),
        ({"hook_point_in": None}, "hook_point_in"),
        ({"hook_point_in": 3}, "hook_point_in"),
        ({"act_fn": "tanh"}, "'tanh'"),
        ({"act_fn": "topk", "jump_relu_threshold": 0, "top_k": 99}, "the k 99"),
        ({"act_fn": "topk", "jump_relu_threshold": 0, "top_k": None}, "the k None"),
        ({"top_k": 0}, "top_k"),
        ({"use_glu_encoder": True}, "gated linear"),
        ({"sparsity_include_decoder_norm": False}, "sparsity_include_decoder_norm"),
        ({"norm_activation": "batch-wise"}, "'batch-wise'"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "> 0"),
        ({"dataset_average_activation_norm": {"in": "x", "out": 1}}, "float"),
        ({"sae_type": "lorsa"}, "'lorsa'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, changes, words):
    folder = save(tmp_path / "a", random_weights(), **changes)
    with pytest.raises(SaeUnreadable) as refusal:
        read(folder, CPU)
    assert words in str(refusal.value)
    assert str(folder) in str(refusal.value)


def test_swapped_matrices_are_refused_by_name(tmp_path):
    w = random_weights()
    w["w_dec"] = w["w_dec"].T
    with pytest.raises(SaeUnreadable, match=r"decoder\.weight"):
        read(save(tmp_path / "a", w), CPU)
