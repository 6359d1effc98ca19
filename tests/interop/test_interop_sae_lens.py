"""SAEs and transcoders of SAELens: its own loader and classes against ours, on one folder."""

import json

import pytest
import torch
from peers import assert_same, assert_same_features, decoder_rows, numbers, peer, residuals
from safetensors.torch import save_file

from microscope.engine.saes.saelens import SAELENS

sae_lens = peer("sae_lens")

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

CPU = torch.device("cpu")
D_IN, D_OUT, N, K = 16, 12, 40, 6
SITE = "blocks.3.hook_resid_post"
BIASES = {
    "standard": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
    "jumprelu": ("b_enc", "threshold"),
    "topk": ("b_enc",),
    "abstopk": ("b_enc",),
}
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")


def tensors(names, d_out=D_IN):
    small = {
        "b_enc": numbers(N, seed=1, scale=0.3),
        "b_gate": numbers(N, seed=2, scale=0.3),
        "b_mag": numbers(N, seed=3, scale=0.3),
        "r_mag": numbers(N, seed=4, scale=0.2),
        "threshold": numbers(N, seed=5).abs(),
        "W_skip": numbers(d_out, D_IN, seed=6, scale=0.4),
    }
    plain = {"W_enc": numbers(D_IN, N, scale=0.5), "W_dec": decoder_rows(N, d_out)}
    return plain | {"b_dec": numbers(d_out, scale=0.5)} | {n: small[n] for n in names}


def save(folder, names, **settings):
    content = {
        "d_in": D_IN,
        "d_sae": N,
        "dtype": "float32",
        "device": "cpu",
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": SITE},
    }
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(content | settings))
    save_file(
        tensors(names, settings.get("d_out", D_IN)), str(folder / "sae_weights.safetensors")
    )
    return folder


def assert_agree(folder, *, folds=True):
    """Theirs are ours over the rows' lengths; once theirs are folded too, the same."""
    x = residuals(D_IN)
    ours, theirs = SAELENS.read(folder, CPU), sae_lens.SAE.load_from_disk(folder)
    activations, raw = ours.encode(x), theirs.encode(x)
    assert ours.card.is_folded == folds
    lengths = theirs.W_dec.norm(dim=-1) if folds else 1
    assert_same_features(activations / lengths, raw)
    assert_same(ours.decode(activations, x), theirs.decode(raw))
    if folds:
        theirs.fold_W_dec_norm()
        assert_same_features(activations, theirs.encode(x))
        assert_same(ours.decode(activations, x), theirs.decode(theirs.encode(x)))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("subtracts", [True, False], ids=["subtracts", "adds only"])
@pytest.mark.parametrize("architecture", ["standard", "gated", "jumprelu", "topk"])
def test_every_architecture_agrees(tmp_path, architecture, subtracts, normalisation):
    settings = {"k": K} if architecture == "topk" else {}
    folder = save(
        tmp_path,
        BIASES[architecture],
        architecture=architecture,
        apply_b_dec_to_input=subtracts,
        normalize_activations=normalisation,
        **settings,
    )
    assert_agree(folder, folds=architecture != "topk")


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_top_k_ranked_by_written_length_agrees_and_counts_in_those_units(
    tmp_path, normalisation
):
    folder = save(
        tmp_path,
        BIASES["topk"],
        architecture="topk",
        k=K,
        rescale_acts_by_decoder_norm=True,
        normalize_activations=normalisation,
    )
    x = residuals(D_IN)
    ours, theirs = SAELENS.read(folder, CPU), sae_lens.SAE.load_from_disk(folder)
    assert ours.card.is_folded
    activations, raw = ours.encode(x), theirs.encode(x)
    assert_same_features(activations, raw)
    assert_same(ours.decode(activations, x), theirs.decode(raw))


def test_a_signed_top_k_agrees(tmp_path):
    save(tmp_path, BIASES["abstopk"], architecture="abstopk", k=K)
    assert_agree(tmp_path, folds=False)


def test_settings_from_before_version_6_agree(tmp_path):
    save(
        tmp_path,
        ("b_enc",),
        metadata=None,
        hook_point=SITE,
        hook_point_layer=3,
        activation_fn_str="relu",
        normalize_activations="none",
    )
    settings = json.loads((tmp_path / "cfg.json").read_text())
    del settings["metadata"]
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    assert_agree(tmp_path)


def test_a_top_k_from_before_version_6_agrees(tmp_path):
    save(tmp_path, ("b_enc",))
    settings = json.loads((tmp_path / "cfg.json").read_text())
    del settings["metadata"]
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "hook_point": SITE}
    (tmp_path / "cfg.json").write_text(json.dumps(settings | old))
    assert_agree(tmp_path, folds=False)


@pytest.mark.parametrize("has_threshold", [False, True], ids=["relu", "jumprelu"])
@pytest.mark.parametrize("has_skip", [False, True], ids=["plain", "skip"])
def test_transcoders_agree(tmp_path, has_skip, has_threshold):
    kinds = ("jumprelu" if has_threshold else "", "skip" if has_skip else "", "transcoder")
    save(
        tmp_path,
        ("b_enc", *(["threshold"] * has_threshold), *(["W_skip"] * has_skip)),
        architecture="_".join(kind for kind in kinds if kind),
        d_out=D_OUT,
        apply_b_dec_to_input=False,
        metadata={
            "sae_lens_version": "6.54.12",
            "hook_name": "blocks.3.ln2.hook_normalized",
            "hook_name_out": "blocks.3.hook_mlp_out",
        },
    )
    x = residuals(D_IN)
    ours, theirs = SAELENS.read(tmp_path, CPU), sae_lens.SAE.load_from_disk(tmp_path)
    activations = ours.encode(x)
    assert_same_features(activations / theirs.W_dec.norm(dim=-1), theirs.encode(x))
    assert_same(ours.decode(activations, x), theirs(x))
    assert ours.sites == ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out")


def test_an_sae_that_their_code_saves_is_read_by_ours(tmp_path):
    config = sae_lens.JumpReLUSAEConfig(
        d_in=D_IN, d_sae=N, metadata=sae_lens.saes.sae.SAEMetadata(hook_name=SITE)
    )
    theirs = sae_lens.JumpReLUSAE(config)
    with torch.no_grad():
        for name, value in tensors(BIASES["jumprelu"]).items():
            getattr(theirs, name).copy_(value)
    theirs.save_model(str(tmp_path))
    assert SAELENS.outline(tmp_path).site == SITE
    assert_agree(tmp_path)


# Their loader of sparsify's folders cannot be compared with: it transposes the decoder and so
# fails on every real file. Files by sparsify are compared with sparsify's own code instead.
