"""Small random SAEs of every architecture, as objects and as folders on disk."""

import json

import torch
from safetensors.torch import save_file

from microscope.core.cards import SaeCard
from microscope.engine.saes.activations import Gated, JumpReLU, ReLU, TopK
from microscope.engine.saes.normalisations import (
    Centred,
    ConstantNorm,
    LayerNorm,
    StaticScale,
    Unnormalised,
)
from microscope.engine.saes.sae import Sae

K = 3
SCALE = 0.37
ARCHITECTURES = ("standard", "jumprelu", "gated", "topk", "topk_by_length")
NORMALISATIONS = {
    "none": Unnormalised(),
    "centred": Centred(),
    "layer_norm": LayerNorm(),
    "constant_norm_rescale": ConstantNorm(),
    "static": StaticScale(SCALE),
}


def random_weights(d_in=8, n_features=20, seed=0):
    """Tensors of every architecture at once; decoder rows have lengths far from 1."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    lengths = 0.3 + 2 * torch.rand(n_features, 1, generator=g)
    return {
        "W_enc": normal(d_in, n_features),
        "W_dec": torch.nn.functional.normalize(normal(n_features, d_in)) * lengths,
        "b_enc": 0.3 * normal(n_features),
        "b_dec": 0.5 * normal(d_in),
        "threshold": torch.rand(n_features, generator=g),
        "b_gate": 0.3 * normal(n_features),
        "r_mag": 0.2 * normal(n_features),
        "b_mag": 0.3 * normal(n_features),
    }


def card(n_features, d_in, *, name="blocks.1.hook_resid_post", site=None, architecture=""):
    return SaeCard(
        name=name,
        source="memory",
        site=site or name,
        architecture=architecture,
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
    )


def random_sae(
    architecture="standard",
    normalisation="none",
    *,
    subtracts_b_dec=True,
    d_in=8,
    n_features=20,
    seed=0,
    name="blocks.1.hook_resid_post",
    site=None,
):
    w = random_weights(d_in, n_features, seed)
    activation = {
        "standard": ReLU(),
        "jumprelu": JumpReLU(w["threshold"]),
        "gated": Gated(w["b_gate"], w["r_mag"], w["b_mag"]),
        "topk": TopK(K),
        "topk_by_length": TopK(K, w["W_dec"].norm(dim=-1)),
    }[architecture]
    return Sae(
        card=card(n_features, d_in, name=name, site=site, architecture=architecture),
        w_enc=w["W_enc"],
        b_enc=torch.zeros(n_features) if architecture == "gated" else w["b_enc"],
        w_dec=w["W_dec"],
        b_dec=w["b_dec"],
        activation=activation,
        normalisation=NORMALISATIONS[normalisation],
        subtracts_b_dec=subtracts_b_dec,
    )


TENSORS = {
    "standard": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "r_mag", "b_mag"),
    "topk": ("b_enc",),
}


def save_saelens(
    folder, architecture="standard", *, d_in=8, n_features=20, seed=0, extra=None, **cfg
):
    """Write a folder in SAELens' present layout; `cfg` replaces or adds top-level keys."""
    weights = random_weights(d_in, n_features, seed)
    names = ("W_enc", "W_dec", "b_dec", *TENSORS[architecture])
    plain = {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": n_features,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "hook_name": "blocks.1.hook_resid_post",
            "model_name": "tiny",
        },
    }
    if architecture == "topk":
        plain["k"] = K
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(plain | cfg))
    tensors = {name: weights[name] for name in names} | (extra or {})
    save_file(tensors, str(folder / "sae_weights.safetensors"))
    return weights
