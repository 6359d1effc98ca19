"""The SAE by qresearch for DeepSeek-R1-Distill-Llama-8B: one `.pt` file named `...-l19.pt`."""

from __future__ import annotations

from microscope.engine.saes.linear_layers import LinearLayers

_FOREIGN = frozenset({"pre_bias", "latent_bias", "b_dec", "bias", "decoder_bias"})

QRESEARCH = LinearLayers("encoder", "decoder", _FOREIGN).format("DeepSeek-R1 (qresearch)")
