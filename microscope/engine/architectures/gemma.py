"""Gemma: Llama's shape; its embedding module multiplies by the root of the width itself."""

from __future__ import annotations

from dataclasses import replace

from microscope.engine.architectures.llama import LLAMA

GEMMA = replace(LLAMA, name="Gemma", model_types=("gemma",))
