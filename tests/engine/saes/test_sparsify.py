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
from safetensors.torch import save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.sparsify import outline, read

K = 4
CFG = {
    "expansion_factor": 32,
    "normalize_decoder": True,
    "num_latents": N_FEATURES,
    "k": K,
    "multi_topk": False,
    "skip_connection": False,
    "d_in": D_IN,
}


def save(folder, weights, dtype=torch.float32, tensors=None, **cfg):
    stored = {
        "encoder.weight": weights["w_enc"].T,
        "encoder.bias": weights["b_enc"],
        "W_dec": weights["w_dec"],
        "b_dec": weights["b_dec"],
    }
    if cfg.get("skip_connection"):
        stored["W_skip"] = weights["skip"].T
    stored = {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
        for name, array in stored.items()
    }
    folder.mkdir(parents=True)
    save_file(stored | (tensors or {}), str(folder / "sae.safetensors"))
    (folder / "cfg.json").write_text(json.dumps(CFG | cfg))
    return folder


def signed_top_k(p, k):
    kept = np.zeros_like(p)
    for row, out in zip(p, kept, strict=True):
        for i in sorted(range(len(row)), key=lambda i: abs(row[i]))[-k:]:
            out[i] = row[i]
    return kept


def group_max(p, k):
    kept = np.zeros_like(p)
    size = p.shape[1] // k
    for row, out in zip(p, kept, strict=True):
        for first in range(0, len(row), size):
            best = max(range(first, first + size), key=lambda i: row[i])
            out[best] = relu(row[best])
    return kept


def formulas(x, w, keep=top_k, skip_connection=False, transcode=False):
    x, w = x.astype(np.float64), doubles(w)
    z = x if transcode else x - w["b_dec"]
    f = keep(z @ w["w_enc"] + w["b_enc"], K)
    skipped = x @ w["skip"] if skip_connection else 0
    return f, f @ w["w_dec"] + w["b_dec"] + skipped


@pytest.mark.parametrize("skip_connection", [False, True])
@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize(
    ("cfg", "keep"),
    [
        ({}, top_k),
        ({"signed": False, "activation": "topk"}, top_k),
        ({"signed": True}, signed_top_k),
        ({"activation": "groupmax"}, group_max),
    ],
)
def test_activations_and_reconstruction_are_those_of_the_formulas(
    tmp_path, cfg, keep, transcode, skip_connection
):
    w = random_weights()
    flags = {"transcode": transcode, "skip_connection": skip_connection}
    sae = read(save(tmp_path / "layers.2.mlp", w, **cfg, **flags), CPU)
    assert not sae.card.is_folded  # other units would change which features are on
    assert_matches(sae, tokens(), *formulas(tokens(), w, keep, **flags), w["w_dec"])


def test_weights_of_eight_bit_precision_are_the_rounded_ones(tmp_path):
    rounded = {
        name: torch.from_numpy(array).bfloat16().float().numpy()
        for name, array in random_weights().items()
    }
    sae = read(save(tmp_path / "layers.2", random_weights(), torch.bfloat16), CPU)
    assert_matches(sae, tokens(), *formulas(tokens(), rounded), rounded["w_dec"])


@pytest.mark.parametrize("cfg", [{"num_latents": 0}, {"num_latents": None}])
def test_without_a_number_of_latents_the_expansion_factor_says_it(tmp_path, cfg):
    folder = save(tmp_path / "layers.2", random_weights(n_features=32), expansion_factor=4)
    settings = {k: v for k, v in (CFG | {"expansion_factor": 4} | cfg).items() if v is not None}
    (folder / "cfg.json").write_text(json.dumps(settings))
    assert read(folder, CPU).card.n_features == 32


@pytest.mark.parametrize(
    ("folder", "site"),
    [
        ("layers.10", "blocks.10.hook_resid_post"),
        ("layers.10/seed2", "blocks.10.hook_resid_post"),
        ("layer_10", "blocks.10.hook_resid_post"),
        ("h.3", "blocks.3.hook_resid_post"),
        ("layers.10.mlp", "blocks.10.mlp.hook_out"),
        ("layers.10.mlp/seed1", "blocks.10.mlp.hook_out"),
        ("layers.10.attention", "blocks.10.hook_attn_out"),
        ("h.3.attn", "blocks.3.hook_attn_out"),
        ("h.3.mlp.act", "blocks.3.mlp.hook_post"),
        ("layers.3.self_attn", "module:layers.3.self_attn.output"),
        ("embed_tokens", "hook_embed"),
        ("wte", "hook_embed"),
    ],
)
def test_the_folders_name_is_the_module_whose_output_is_read(tmp_path, folder, site):
    card = outline(save(tmp_path / folder, random_weights()))
    assert (card.site, card.site_out) == (site, "")


@pytest.mark.parametrize(
    ("folder", "site", "site_out"),
    [
        ("layers.10.mlp", "blocks.10.mlp.hook_in", "blocks.10.mlp.hook_out"),
        ("h.3", "blocks.3.hook_resid_pre", "blocks.3.hook_resid_post"),
        (
            "layers.3.self_attn/seed1",
            "module:layers.3.self_attn.input",
            "module:layers.3.self_attn.output",
        ),
    ],
)
def test_a_transcoder_reads_the_modules_input_and_writes_its_output(
    tmp_path, folder, site, site_out
):
    card = outline(save(tmp_path / folder, random_weights(), transcode=True))
    assert (card.site, card.site_out) == (site, site_out)


def test_every_seed_of_a_run_is_found(tmp_path):
    names = ["layers.2/seed1", "layers.2/seed2", "layers.10/seed1"]
    for name in names:
        save(tmp_path / name, random_weights())
    (tmp_path / "config.json").write_text("{}")  # that of the training run
    assert find_saes(str(tmp_path)) == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"activation": "relu"}, "'relu'"),
        ({"k": 21}, "21 active features of 20"),
        ({"k": 0}, "k"),
        ({"k": "4"}, "k"),
        ({"k": 3, "activation": "groupmax"}, "3 groups"),
        ({"signed": True, "activation": "groupmax"}, "signed"),
        ({"d_in": 0}, "d_in"),
        ({"d_in": N_FEATURES, "num_latents": D_IN}, "shape"),
        ({"num_latents": 10**40}, "num_latents"),
        ({"num_latents": 24}, "shape"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, cfg, words):
    folder = save(tmp_path / "layers.2", random_weights(), **cfg)
    with pytest.raises(SaeUnreadable, match=words):
        read(folder, CPU)


def test_a_decoder_stored_the_other_way_round_is_refused(tmp_path):
    w = random_weights()
    folder = save(tmp_path / "layers.2", w, tensors={"W_dec": torch.ones(D_IN, N_FEATURES)})
    with pytest.raises(SaeUnreadable, match=r"'W_dec' .* \[8, 20\]; .* \[20, 8\]"):
        read(folder, CPU)


@pytest.mark.parametrize("name", ["my sae", "layers", "..mlp"])
def test_a_folder_that_does_not_name_a_module_is_refused(tmp_path, name):
    with pytest.raises(SaeUnreadable, match="keep the name"):
        outline(save(tmp_path / name, random_weights()))
