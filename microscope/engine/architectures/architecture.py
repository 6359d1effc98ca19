"""A model family as data: where its sites are and how its logits are finished.

Knows names only; `resolving.py` looks them up in a network.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Names of the parts of one model family.

    `blocks`, `final_norm` and `after_norm` are paths from the top of the network, the others
    paths from a block. None means that the family has no such part, or that it is not known.
    The three `logit_` fields name numbers of the model's configuration, applied to the
    unembedding's output in the order multiplier, divisor, cap.
    """

    name: str
    model_types: tuple[str, ...]
    """What `model_type` of the configuration may be."""
    blocks: str
    final_norm: str
    after_norm: str | None = None
    """A projection between the final norm and the unembedding."""
    attention: str | None = "self_attn"
    attention_projection: str | None = "self_attn.o_proj"
    """The linear map whose input is the concatenated heads."""
    mlp: str | None = "mlp"
    mlp_projection: str | None = "mlp.down_proj"
    """The linear map whose input is the MLP's hidden layer."""
    mlp_pre: str | None = "mlp.gate_proj"
    """The linear map whose output goes through the MLP's non-linearity."""
    fuses_mlp_pre: bool = False
    """Whether only the first half of that output does; the other half is a factor."""
    attention_norm: str | None = "input_layernorm"
    """The norm that attention reads, whose input is the residual stream before the block."""
    mlp_norm: str | None = "post_attention_layernorm"
    """The norm that the MLP alone reads, whose input is a residual stream."""
    resid_mid: str | None = "post_attention_layernorm"
    """The module whose input is the residual stream between attention and MLP."""
    attn_out: str | None = "self_attn"
    """The module whose output is what attention adds to the residual stream."""
    mlp_out: str | None = "mlp"
    """The module whose output is what the MLP adds to the residual stream."""
    flattens_mlp: bool = False
    """Whether rows and tokens are one axis between resid_mid and the end of the block."""
    parallel_flag: str | None = None
    """A setting of the configuration: while on, attention and MLP read the same residual."""
    logit_multiplier: str | None = None
    logit_divisor: str | None = None
    logit_cap: str | None = None
    wants_bos: bool = True
    """Whether a prompt starts with BOS even where the tokenizer does not add it."""
