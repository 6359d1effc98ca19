"""Cohere's Command R: attention and MLP read the same residual; scaled logits."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

COHERE = replace(
    LLAMA,
    name="Cohere",
    model_types=("cohere", "cohere2"),
    resid_mid=None,
    mlp_norm=None,
    logit_multiplier="logit_scale",
)
