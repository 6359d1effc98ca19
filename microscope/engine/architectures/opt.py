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
    mlp_pre="fc1",
    # Where it stands differs with the size of the model.
    attention_norm=None,
    mlp_norm=None,
    resid_mid=None,
    mlp_out="fc2",
    flattens_mlp=True,
)
