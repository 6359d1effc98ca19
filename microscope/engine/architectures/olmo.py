"""OLMo is Llama's shape; OLMo 2 and 3 have their norms after attention and MLP only."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

OLMO = replace(LLAMA, name="OLMo", model_types=("olmo",))

OLMO2 = replace(
    LLAMA,
    name="OLMo 2",
    model_types=("olmo2", "olmo3"),
    attention_norm=None,
    mlp_norm=None,
    resid_mid="mlp",
    attn_out="post_attention_layernorm",
    mlp_out="post_feedforward_layernorm",
)
