"""Gemma 2: a norm before and after attention and MLP, and capped logits.

What attention and MLP add to the residual stream is the output of the norm after them.
"""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.gemma import GEMMA

GEMMA2 = replace(
    GEMMA,
    name="Gemma 2",
    model_types=("gemma2",),
    mlp_norm="pre_feedforward_layernorm",
    resid_mid="pre_feedforward_layernorm",
    attn_out="post_attention_layernorm",
    mlp_out="post_feedforward_layernorm",
    logit_cap="final_logit_softcapping",
)
