"""Phi-3 and Phi-4: Llama's shape with fused projections."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

PHI3 = replace(
    LLAMA,
    name="Phi-3",
    model_types=("phi3",),
    mlp_pre="mlp.gate_up_proj",
    fuses_mlp_pre=True,
)
