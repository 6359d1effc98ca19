"""Finds the blocks and the final norm of a family that has no file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from microscope.engine.architectures.architecture import Architecture

if TYPE_CHECKING:
    from collections.abc import Iterator

_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f")
_MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")


def guess_architecture(network: nn.Module, text_config: object) -> Architecture | None:
    """An architecture for any stack of blocks with one norm after it; None if none is seen.

    The blocks are the first list of `num_hidden_layers` modules outside a vision part; the
    final norm stands beside that list. Sites inside a block stay unknown.
    """
    n_layers = getattr(text_config, "num_hidden_layers", 0)
    for path in _block_lists(network, n_layers):
        trunk, _, _ = path.rpartition(".")
        norm = _final_norm(network.get_submodule(trunk))
        if norm is not None:
            return _architecture(network, text_config, path, f"{trunk}.{norm}".lstrip("."))
    return None


def _block_lists(network: nn.Module, n_layers: int) -> Iterator[str]:
    for path, module in network.named_modules():
        is_stack = isinstance(module, nn.ModuleList) and len(module) == n_layers > 0
        if is_stack and "vision" not in path:
            yield path


def _final_norm(trunk: nn.Module) -> str | None:
    names = [name for name, _ in trunk.named_children()]
    exact = [name for name in _FINAL_NORMS if name in names]
    like = [name for name in names if "norm" in name or name.startswith("ln")]
    return exact[0] if exact else (like[-1] if like else None)


def _architecture(
    network: nn.Module, text_config: object, blocks: str, final_norm: str
) -> Architecture:
    def present(*names: str) -> str | None:
        return next((name for name in names if getattr(text_config, name, None)), None)

    return Architecture(
        name=type(network).__name__,
        model_types=(),
        blocks=blocks,
        final_norm=final_norm,
        attention=None,
        attention_projection=None,
        mlp=None,
        mlp_projection=None,
        mlp_pre=None,
        attention_norm=None,
        mlp_norm=None,
        resid_mid=None,
        attn_out=None,
        mlp_out=None,
        logit_multiplier=present(*_MULTIPLIERS),
        logit_divisor=present("logits_scaling"),
        logit_cap=present("final_logit_softcapping"),
    )
