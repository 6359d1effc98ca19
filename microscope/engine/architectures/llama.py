"""Llama, and the families that are shaped like it in every part named here."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

LLAMA = Architecture(
    name="Llama",
    model_types=("llama", "smollm3"),
    blocks="model.layers",
    final_norm="model.norm",
)
