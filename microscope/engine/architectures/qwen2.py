"""Qwen2 and Qwen2.5: Llama's shape, trained without BOS."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

QWEN2 = replace(LLAMA, name="Qwen2", model_types=("qwen2", "qwen2_moe"), wants_bos=False)
