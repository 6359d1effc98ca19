"""Phi-1, Phi-1.5 and Phi-2: one norm a block, read by attention and MLP alike."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

PHI = Architecture(
    name="Phi",
    model_types=("phi",),
    blocks="model.layers",
    final_norm="model.final_layernorm",
    attention_projection="self_attn.dense",
    mlp_projection="mlp.fc2",
    mlp_pre="mlp.fc1",
    mlp_norm=None,
    resid_mid=None,
)
