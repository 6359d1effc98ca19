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
    rng,
    tokens,
    top_k,
)

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.dictionary_learning import outline, read, recognises
from microscope.engine.saes.loading import find_saes

K = 4
THETA = 0.8
RUN = "resid_post_layer_8/trainer_0"


def weights_of():
    g = rng(2)
    gates = {
        "r_mag": 0.2 * g.normal(size=N_FEATURES),
        "mag_bias": 0.3 * g.normal(size=N_FEATURES),
    }
    return random_weights() | {name: v.astype(np.float32) for name, v in gates.items()}


def linear(w):
    return {"encoder.weight": w["w_enc"].T, "decoder.weight": w["w_dec"].T}


def matrices(w):
    return {"W_enc": w["w_enc"], "W_dec": w["w_dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}


def counted(state):
    """With the `k` and the threshold that the top-k classes keep beside their weights."""
    return state | {"k": np.int64(K), "threshold": np.float32(THETA)}


STATES = {
    "AutoEncoder": lambda w: linear(w) | {"bias": w["b_dec"], "encoder.bias": w["b_enc"]},
    "AutoEncoderNew": lambda w: (
        linear(w) | {"decoder.bias": w["b_dec"], "encoder.bias": w["b_enc"]}
    ),
    "GatedAutoEncoder": lambda w: (
        linear(w)
        | {
            "decoder_bias": w["b_dec"],
            "gate_bias": w["b_enc"],
            "r_mag": w["r_mag"],
            "mag_bias": w["mag_bias"],
        }
    ),
    "JumpReluAutoEncoder": lambda w: matrices(w) | {"threshold": w["threshold"]},
    "AutoEncoderTopK": lambda w: counted(
        linear(w) | {"b_dec": w["b_dec"], "encoder.bias": w["b_enc"]}
    ),
    "BatchTopKSAE": lambda w: counted(
        linear(w) | {"b_dec": w["b_dec"], "encoder.bias": w["b_enc"]}
    ),
    "MatryoshkaBatchTopKSAE": lambda w: (
        counted(matrices(w)) | {"group_sizes": np.array([5, 15])}
    ),
}
SUBTRACTS = {name: name not in ("AutoEncoderNew", "JumpReluAutoEncoder") for name in STATES}
BIASES = ("b_enc", "b_dec", "threshold", "mag_bias")


def formulas(dict_class, x, w, theta=THETA):
    x, w = x.astype(np.float64), doubles(w)
    p = (x - w["b_dec"] * SUBTRACTS[dict_class]) @ w["w_enc"]
    if dict_class == "GatedAutoEncoder":
        f = relu(p * np.exp(w["r_mag"]) + w["mag_bias"]) * (p + w["b_enc"] > 0)
    else:
        p = p + w["b_enc"]
        f = {
            "JumpReluAutoEncoder": lambda: relu(p * (p > w["threshold"])),
            "AutoEncoderTopK": lambda: top_k(p, K),
            "BatchTopKSAE": lambda: jumprelu(p, theta),
            "MatryoshkaBatchTopKSAE": lambda: jumprelu(p, theta),
        }.get(dict_class, lambda: relu(p))()
    return f, f @ w["w_dec"] + w["b_dec"]


def trainer(kind, **changed):
    return {
        "dict_class": kind,
        "trainer_class": "SomeTrainer",
        "activation_dim": D_IN,
        "dict_size": N_FEATURES,
        "layer": 8,
        "lm_name": "tiny",
        "submodule_name": "resid_post_layer_8",
    } | changed


def save(folder, kind, weights, contents=None, io="out", **changed):
    state = STATES[kind](weights)
    stored = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    folder.mkdir(parents=True)
    torch.save(contents(stored) if contents else stored, folder / "ae.pt")
    settings = {"trainer": trainer(kind, **changed), "buffer": {"io": io}}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("dict_class", STATES)
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, dict_class):
    w = weights_of()
    sae = read(save(tmp_path / RUN, dict_class, w), CPU)
    assert sae.card.is_folded == (dict_class != "AutoEncoderTopK")
    assert_matches(sae, tokens(), *formulas(dict_class, tokens(), w), w["w_dec"])


@pytest.mark.parametrize("dict_class", STATES)
def test_a_training_backup_has_its_biases_scaled_first(tmp_path, dict_class):
    w, factor = weights_of(), 1.7

    def backup(state):
        optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-3, "betas": (0, 1)}]}
        return {
            "step": 9,
            "ae": state,
            "optimizer": optimizer,
            "config": {"seed": 0, "device": "cuda:0"},
            "norm_factor": factor,
        }

    sae = read(save(tmp_path / RUN, dict_class, w, contents=backup), CPU)
    scaled = w | {name: w[name].astype(np.float64) * factor for name in BIASES}
    expected = formulas(dict_class, tokens(), scaled, theta=THETA * factor)
    assert_matches(sae, tokens(), *expected, w["w_dec"])


@pytest.mark.parametrize("dict_class", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_threshold_that_was_never_set_switches_nothing_off(tmp_path, dict_class):
    w = weights_of()

    def unset(state):
        return state | {"threshold": torch.tensor(-1.0)}

    sae = read(save(tmp_path / RUN, dict_class, w, contents=unset), CPU)
    assert_matches(sae, tokens(), *formulas(dict_class, tokens(), w, theta=0), w["w_dec"])


def test_k_comes_from_the_settings_where_the_weights_do_not_have_it(tmp_path):
    w = weights_of()

    def without_k(state):
        return {name: tensor for name, tensor in state.items() if name != "k"}

    folder = save(tmp_path / RUN, "AutoEncoderTopK", w, contents=without_k, k=K)
    assert_matches(
        read(folder, CPU), tokens(), *formulas("AutoEncoderTopK", tokens(), w), w["w_dec"]
    )


def test_a_checkpoint_is_an_sae_of_its_own(tmp_path):
    w, later = weights_of(), random_weights(seed=9) | {"r_mag": 0, "mag_bias": 0}
    folder = save(tmp_path / RUN, "AutoEncoder", w)
    path = folder / "checkpoints" / "ae_1000.pt"
    path.parent.mkdir()
    state = STATES["AutoEncoder"](later)
    torch.save({name: torch.from_numpy(np.array(v)) for name, v in state.items()}, path)
    assert find_saes(str(tmp_path)) == [str(folder)]
    assert find_saes(str(path)) == [str(path)]
    expected = formulas("AutoEncoder", tokens(), later)
    assert_matches(read(path, CPU), tokens(), *expected, later["w_dec"])


@pytest.mark.parametrize(
    ("changed", "io", "site"),
    [
        ({}, "out", "blocks.8.hook_resid_post"),
        ({"submodule_name": None}, "out", "blocks.8.hook_resid_post"),
        ({"submodule_name": None, "layer": None}, "out", "blocks.8.hook_resid_post"),
        ({"submodule_name": "mlp_out_layer_8"}, "out", "blocks.8.mlp.hook_out"),
        ({"submodule_name": "mlp_layer8", "layer": None}, "in", "blocks.8.mlp.hook_in"),
        ({"submodule_name": "attn_out_layer_8"}, "out", "blocks.8.hook_attn_out"),
        ({"submodule_name": "resid_pre_layer_8"}, "out", "blocks.8.hook_resid_pre"),
        ({"submodule_name": "resid_post_layer_8"}, "in", "blocks.8.hook_resid_pre"),
        ({"submodule_name": "gpt_neox.layers.3"}, "out", "blocks.3.hook_resid_post"),
        ({"submodule_name": "gpt_neox.layers.3.mlp"}, "out", "blocks.3.mlp.hook_out"),
        ({"submodule_name": "model.layers.3.self_attn.o_proj"}, "in", "blocks.3.attn.hook_z"),
    ],
)
def test_the_settings_or_the_folders_name_say_which_site_is_read(tmp_path, changed, io, site):
    folder = save(tmp_path / RUN, "AutoEncoder", weights_of(), io=io, **changed)
    assert outline(folder).site == site


def test_a_folder_is_recognised_by_its_two_files(tmp_path):
    folder = save(tmp_path / RUN, "AutoEncoder", weights_of())
    assert recognises(folder)
    (folder / "config.json").unlink()
    assert not recognises(folder)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dict_class": "IdentityDict"}, "'IdentityDict'"),
        ({"dict_class": None}, "dict_class"),
        ({"activation_dim": "8"}, "activation_dim"),
        ({"activation_dim": N_FEATURES, "dict_size": D_IN}, "shape"),
        ({"dict_size": 2**31}, "shape"),
        ({"submodule_name": "hook_q"}, "'hook_q'"),
        ({"submodule_name": "mlp_out", "layer": None}, "layer None"),
        ({"layer": -1}, "layer"),
        ({"io": "sideways"}, "io"),
        ({"io": "in_and_out"}, "input to its output"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, changed, words):
    folder = save(tmp_path / RUN, "AutoEncoder", weights_of(), **changed)
    with pytest.raises(SaeUnreadable, match=words):
        read(folder, CPU)


@pytest.mark.parametrize("k", [0, 21, 2.5, float("nan"), torch.tensor(-1)])
def test_an_impossible_k_is_refused(tmp_path, k):
    def with_k(state):
        return state | {"k": k}

    folder = save(tmp_path / RUN, "AutoEncoderTopK", weights_of(), contents=with_k)
    with pytest.raises(SaeUnreadable, match="the k"):
        read(folder, CPU)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_norm_factor_is_refused(tmp_path, factor):
    def backup(state):
        return {"ae": state, "norm_factor": factor}

    folder = save(tmp_path / RUN, "AutoEncoder", weights_of(), contents=backup)
    with pytest.raises(SaeUnreadable, match="norm_factor"):
        read(folder, CPU)


@pytest.mark.parametrize("dict_class", STATES)
def test_weights_stored_the_other_way_round_are_refused(tmp_path, dict_class):
    w = weights_of()
    turned = w | {"w_enc": w["w_enc"].T, "w_dec": w["w_dec"].T}
    with pytest.raises(SaeUnreadable, match=r"has the shape \[\d+, \d+\]; .* ask for"):
        read(save(tmp_path / RUN, dict_class, turned), CPU)
