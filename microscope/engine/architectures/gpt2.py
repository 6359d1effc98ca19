"""GPT-2: learned positions, LayerNorm before attention and MLP."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

GPT2 = Architecture(
    name="GPT-2",
    model_types=("gpt2",),
    blocks="transformer.h",
    final_norm="transformer.ln_f",
    attention="attn",
    attention_projection="attn.c_proj",
    mlp_projection="mlp.c_proj",
    mlp_pre="mlp.c_fc",
    attention_norm="ln_1",
    mlp_norm="ln_2",
    resid_mid="ln_2",
    attn_out="attn",
)
