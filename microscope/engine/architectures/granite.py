"""Granite: Llama's shape; what a branch adds is scaled outside any module of its own."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

GRANITE = replace(
    LLAMA,
    name="Granite",
    model_types=("granite",),
    attn_out=None,
    mlp_out=None,
    logit_divisor="logits_scaling",
)
