"""Mamba and Mamba-2: state-space blocks of a norm and a mixer; no attention and no MLP."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

MAMBA = Architecture(
    name="Mamba",
    model_types=("mamba", "mamba2", "falcon_mamba"),
    blocks="backbone.layers",
    final_norm="backbone.norm_f",
    attention=None,
    attention_projection=None,
    mlp=None,
    mlp_projection=None,
    mlp_pre=None,
    attention_norm=None,
    mlp_norm=None,
    resid_mid=None,
    attn_out=None,
    mlp_out=None,
    wants_bos=False,
)
