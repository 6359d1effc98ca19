"""Mistral and Mixtral: Llama's shape, some with sliding-window attention."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

MISTRAL = replace(LLAMA, name="Mistral", model_types=("mistral", "mixtral"))
