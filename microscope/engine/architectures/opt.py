"""OPT: learned positions; no MLP module of its own, and no norm at all at the end of some."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

OPT = Architecture(
    name="OPT",
    model_types=("opt",),
    blocks="model.decoder.layers",
    final_norm="model.decoder.final_layer_norm",
    after_norm="model.decoder.project_out",
    attention_projection="self_attn.out_proj",
    mlp=None,
    mlp_projection="fc2",
    # The block flattens rows and tokens into one axis before the norm that reads resid_mid.
    resid_mid=None,
    mlp_out="fc2",
)
