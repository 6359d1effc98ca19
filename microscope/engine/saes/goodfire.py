"""SAEs by Goodfire for Llama 3: one `.pth` or `.pt` file such as `...-Instruct-SAE-l19.pth`.

They were trained on conversations, so prompts should use the model's chat template.
"""

from __future__ import annotations

from microscope.engine.saes.linear_layers import LinearLayers

GOODFIRE = LinearLayers("encoder_linear", "decoder_linear").format("Goodfire")
