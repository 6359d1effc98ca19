"""GPT-NeoX and Pythia: attention and MLP read the same residual, so most have no resid_mid."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

GPT_NEOX = Architecture(
    name="GPT-NeoX",
    model_types=("gpt_neox",),
    blocks="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    attention="attention",
    attention_projection="attention.dense",
    mlp_projection="mlp.dense_4h_to_h",
    mlp_pre="mlp.dense_h_to_4h",
    attn_out="attention",
    parallel_flag="use_parallel_residual",
)
