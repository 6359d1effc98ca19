import json

import numpy as np
import pytest
import torch
from reference import (
    CPU,
    D_IN,
    N_FEATURES,
    N_TOKENS,
    assert_close,
    assert_matches,
    doubles,
    jumprelu,
    random_weights,
    relu,
    tokens,
)
from safetensors.torch import save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.saelens import outline, read
from microscope.engine.saes.transcoder import Transcoder

D_OUT = 6
HOOKS = "blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out"
KINDS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def save(folder, kind, w, d_out=D_OUT, **cfg):
    folder.mkdir(parents=True, exist_ok=True)
    named = {"W_enc": w["w_enc"], "W_dec": w["w_dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    if "jumprelu" in kind:
        named["threshold"] = w["threshold"]
    if "skip" in kind:
        named["W_skip"] = w["skip"].T
    tensors = {n: torch.tensor(np.ascontiguousarray(a)) for n, a in named.items()}
    save_file(tensors, str(folder / "sae_weights.safetensors"))
    plain = {
        "architecture": kind,
        "d_in": D_IN,
        "d_out": d_out,
        "d_sae": N_FEATURES,
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "hook_name": HOOKS[0],
            "hook_name_out": HOOKS[1],
        },
    }
    (folder / "cfg.json").write_text(json.dumps(plain | cfg))
    return folder


def formulas(kind, x, w):
    x, w = x.astype(np.float64), doubles(w)
    p = x @ w["w_enc"] + w["b_enc"]
    f = jumprelu(p, w["threshold"]) if "jumprelu" in kind else relu(p)
    return f, f @ w["w_dec"] + w["b_dec"] + (x @ w["skip"] if "skip" in kind else 0)


@EVERY_KIND
@pytest.mark.parametrize("subtracts", [False, True])
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, kind, subtracts):
    w = random_weights(d_out=D_OUT)
    sae = read(save(tmp_path, kind, w, apply_b_dec_to_input=subtracts), CPU)
    assert isinstance(sae, Transcoder)
    assert_matches(sae, tokens(), *formulas(kind, tokens(), w), w["w_dec"])
    assert (sae.card.site, sae.card.site_out) == HOOKS
    assert (sae.card.d_in, sae.card.d_out) == (D_IN, D_OUT)
    assert sae.sites == HOOKS


@EVERY_KIND
def test_the_error_is_that_of_what_stands_where_it_writes(tmp_path, kind):
    w = random_weights(d_out=D_OUT)
    sae, y = read(save(tmp_path, kind, w), CPU), tokens(D_OUT, seed=9)
    f, y_hat = formulas(kind, tokens(), w)
    error = y.astype(np.float64) - y_hat
    x = torch.from_numpy(tokens())
    assert_close(sae.error(x, torch.from_numpy(y)), error)
    residuals = dict(zip(HOOKS, (x, torch.from_numpy(y)), strict=True))
    found = sae.read(residuals, slice(2, 6), 4)
    share = (error**2).sum(1) / (y.astype(np.float64) ** 2).sum(1)
    np.testing.assert_allclose(found.error_share, share[2:6], rtol=1e-4)
    np.testing.assert_allclose(found.norm, np.linalg.norm(y[2:6], axis=1), rtol=1e-5)
    lengths = np.linalg.norm(doubles(w)["w_dec"], axis=1)
    best = np.argsort(-f * lengths, axis=1)[2:6, 0]
    np.testing.assert_array_equal(found.indices[:, 0], best)


def test_one_width_is_enough_where_both_are_the_same(tmp_path):
    w = random_weights()
    folder = save(tmp_path, "skip_transcoder", w, d_out=None)
    sae = read(folder, CPU)
    assert_matches(sae, tokens(), *formulas("skip_transcoder", tokens(), w), w["w_dec"])


def test_hugging_face_paths_name_sites_too(tmp_path):
    metadata = {
        "hook_name": "model.layers.2.pre_feedforward_layernorm",
        "hook_name_out": "model.layers.2.post_feedforward_layernorm",
        "model_class_name": "AutoModelForCausalLM",
    }
    card = outline(save(tmp_path, "transcoder", random_weights(), metadata=metadata))
    assert (card.site, card.site_out) == ("blocks.2.mlp.hook_in", "blocks.2.hook_mlp_out")


def test_it_is_found_in_its_folder(tmp_path):
    folder = save(tmp_path / "layer_2", "transcoder", random_weights(d_out=D_OUT))
    assert find_saes(str(tmp_path)) == [str(folder)]


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"d_out": D_OUT + 1}, "W_dec"),
        ({"d_out": 0}, "d_out"),
        ({"metadata": {"hook_name": HOOKS[0]}}, "names the site None"),
        ({"normalize_activations": "layer_norm"}, "normalised activations"),
        ({"hook_head_index": 1}, "head 1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, cfg, words):
    folder = save(tmp_path, "transcoder", random_weights(d_out=D_OUT), **cfg)
    with pytest.raises(SaeUnreadable) as refusal:
        read(folder, CPU)
    assert words in str(refusal.value)


def test_signed_top_k_keeps_the_largest_of_either_sign(tmp_path):
    w, wide = random_weights(), doubles(random_weights())
    metadata = {"hook_name": HOOKS[1]}
    folder = save(tmp_path, "abstopk", w, metadata=metadata, k=4, apply_b_dec_to_input=True)
    h = (tokens() - wide["b_dec"]) @ wide["w_enc"] + wide["b_enc"]
    f = np.zeros_like(h)
    for token in range(N_TOKENS):
        kept = np.argsort(-np.abs(h[token]))[:4]
        f[token, kept] = h[token, kept]
    sae = read(folder, CPU)
    assert_matches(sae, tokens(), f, f @ wide["w_dec"] + wide["b_dec"], w["w_dec"])
    assert not sae.card.is_folded
