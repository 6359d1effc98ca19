"""RWKV: time mixing and channel mixing take the places of attention and MLP."""

from __future__ import annotations

from microscope.engine.architectures.architecture import Architecture

RWKV = Architecture(
    name="RWKV",
    model_types=("rwkv",),
    blocks="rwkv.blocks",
    final_norm="rwkv.ln_out",
    attention="attention",
    attention_projection="attention.output",
    mlp="feed_forward",
    mlp_projection="feed_forward.value",
    mlp_pre="feed_forward.key",
    attention_norm="ln1",
    mlp_norm="ln2",
    resid_mid="ln2",
    attn_out="attention",
    mlp_out="feed_forward",
    wants_bos=False,
)
