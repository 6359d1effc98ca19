"""Qwen3: Llama's shape with normalised queries and keys, trained without BOS."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

QWEN3 = replace(LLAMA, name="Qwen3", model_types=("qwen3", "qwen3_moe"), wants_bos=False)
