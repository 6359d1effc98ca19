from collections import OrderedDict

import numpy as np
import pytest
import torch
from reference import (
    CPU,
    D_IN,
    N_FEATURES,
    assert_close,
    assert_matches,
    doubles,
    random_weights,
    relu,
    tokens,
    top_k,
)

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.openai import outline, read, recognises

K = 4
V5 = "gpt2-small/resid_post_mlp_v5_32k/autoencoders/6.pt"
V1 = "gpt2-small/mlp_post_act/autoencoders/6.pt"
TOPK = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
RELU = {"activation": "ReLU", "activation_state_dict": {}}


def save(path, weights, *, tied=False, **more):
    state = OrderedDict(
        pre_bias=weights["b_dec"],
        latent_bias=weights["b_enc"],
        latents_activation_frequency=np.ones(N_FEATURES, np.float32),
        latents_mean_square=np.ones(N_FEATURES, np.float32),
        stats_last_nonzero=np.zeros(N_FEATURES, np.int64),
    )
    state["encoder.weight"] = weights["w_enc"].T
    if tied:
        state["decoder.linear.weight"] = weights["w_enc"].T
    else:
        state["decoder.weight"] = weights["w_dec"].T
    tensors = OrderedDict((name, torch.from_numpy(array)) for name, array in state.items())
    path.parent.mkdir(parents=True)
    torch.save(tensors | more, path)
    return path


def formulas(x, w, activation, is_normed):
    x, w = x.astype(np.float64), doubles(w)
    mean = x.mean(1, keepdims=True) if is_normed else 0
    deviation = x.std(1, ddof=1, keepdims=True) if is_normed else 1
    z = (x - mean) / (deviation + 1e-5) if is_normed else x
    f = activation((z - w["b_dec"]) @ w["w_enc"] + w["b_enc"])
    return f, (f @ w["w_dec"] + w["b_dec"]) * deviation + mean


def test_version_five_keeps_the_largest_on_layer_normed_tokens(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / V5, w, **TOPK), CPU)
    assert not sae.card.is_folded
    x = tokens() + np.float32(2)  # a mean that the layer norm has to take away
    assert_matches(sae, x, *formulas(x, w, lambda h: top_k(h, K), True), w["w_dec"])


@pytest.mark.parametrize("more", [RELU, {}], ids=["named", "unnamed"])
def test_the_first_versions_are_plain_relu_saes(tmp_path, more):
    w = random_weights()
    sae = read(save(tmp_path / V1, w, **more), CPU)
    assert sae.card.is_folded
    assert_matches(sae, tokens(), *formulas(tokens(), w, relu, False), w["w_dec"])


def test_a_tied_decoder_is_the_encoder(tmp_path):
    w = random_weights()
    tied = w | {"w_dec": w["w_enc"].T}
    sae = read(save(tmp_path / V1, w, tied=True, **RELU), CPU)
    assert_matches(sae, tokens(), *formulas(tokens(), tied, relu, False), tied["w_dec"])


def test_an_identity_activation_keeps_what_is_below_zero(tmp_path):
    w = random_weights()
    sae = read(save(tmp_path / V1, w, activation="Identity", activation_state_dict={}), CPU)
    f, x_hat = formulas(tokens(), w, lambda h: h, False)
    encoded = sae.encode(torch.from_numpy(tokens()))
    assert_close(encoded.numpy() / np.linalg.norm(w["w_dec"].astype(float), axis=1), f)
    assert_close(sae.decode(encoded, torch.from_numpy(tokens())).numpy(), x_hat)


@pytest.mark.parametrize(
    ("folder", "site"),
    [
        ("mlp_post_act", "mlp.hook_post"),
        ("mlp_post_act_v4", "mlp.hook_post"),
        ("resid_delta_attn_v5_128k", "hook_attn_out"),
        ("resid_delta_mlp", "hook_mlp_out"),
        ("resid_delta_mlp_v5_32k", "hook_mlp_out"),
        ("resid_post_attn_v5_32k", "hook_resid_mid"),
        ("resid_post_mlp_v5_128k", "hook_resid_post"),
    ],
)
def test_the_folders_and_the_files_name_say_which_site_is_read(tmp_path, folder, site):
    path = tmp_path / folder / "autoencoders" / "11.pt"
    card = outline(save(path, random_weights(), **RELU))
    assert (card.site, card.d_in, card.n_features) == (f"blocks.11.{site}", D_IN, N_FEATURES)


def test_every_layer_of_a_folder_is_found_in_order(tmp_path):
    paths = [tmp_path / V5.replace("6", str(layer)) for layer in (2, 10)]
    save(paths[0], random_weights(), **TOPK)
    paths[1].write_bytes(paths[0].read_bytes())
    torch.save({"other": torch.ones(2)}, paths[0].with_name("3.pt"))
    assert find_saes(str(tmp_path)) == [str(path) for path in paths]
    assert not recognises(paths[0].with_name("3.pt"))


@pytest.mark.parametrize(
    "name", ["downloads/6.pt", "resid_post_mlp_v5_32k/autoencoders/six.pt"]
)
def test_a_file_without_its_folders_is_refused(tmp_path, name):
    with pytest.raises(SaeUnreadable, match="keep the file in its folders"):
        outline(save(tmp_path / name, random_weights(), **RELU))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"activation": "Swish"}, "'Swish'"),
        ({"activation": "TopK"}, "the k None"),
        ({"activation": "TopK", "activation_state_dict": {"k": 21}}, "the k 21"),
        ({"activation": "TopK", "activation_state_dict": {"k": 2.5}}, "the k 2.5"),
        ({"activation": "TopK", "activation_state_dict": {"k": float("nan")}}, "the k nan"),
        (
            {"activation": "TopK", "activation_state_dict": {"k": 3, "postact_fn": "Tanh"}},
            "Tanh",
        ),
        ({"encoder.weight": torch.ones(D_IN, N_FEATURES)}, r"\[20\]; .* ask for \[8\]"),
        ({"decoder.weight": torch.ones(N_FEATURES, D_IN)}, r"'decoder.weight' .* \[20, 8\]"),
        ({"encoder.weight": torch.full((N_FEATURES, D_IN), torch.inf)}, "not finite"),
        ({"pre_bias": torch.ones(D_IN, dtype=torch.int64)}, "int64"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, more, words):
    path = save(tmp_path / V5, random_weights(), **(RELU | more))
    with pytest.raises(SaeUnreadable, match=words):
        read(path, CPU)
