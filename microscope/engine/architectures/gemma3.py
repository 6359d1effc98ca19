"""Gemma 3: Gemma 2's norms; sliding-window layers; with vision, the text part is one deeper."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.gemma2 import GEMMA2

GEMMA3 = replace(GEMMA2, name="Gemma 3", model_types=("gemma3_text",))

GEMMA3_VISION = replace(
    GEMMA3,
    name="Gemma 3 (text part)",
    model_types=("gemma3",),
    blocks="model.language_model.layers",
    final_norm="model.language_model.norm",
    logit_cap=None,  # this class leaves its logits as the unembedding makes them
)
