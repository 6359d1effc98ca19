"""Where a site is in an open network: which end of which module, and how wide it is there.

Knows nothing of hooks; `tracing.py` attaches them to the places found here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from microscope.core.errors import SaeMismatch
from microscope.core.sites import TOKEN_EMBED, AnySite, ModuleSite, Site, parse_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from microscope.core.sites import End
    from microscope.engine.architectures import Anatomy

_IN_BLOCK = re.compile(r"(?:\w+\.)*(?:layers|blocks|h)\.(\d{1,5})(?:\.(.+))?", re.ASCII)
_EPS = 1e-5  # of norms that do not say


@dataclass(frozen=True)
class Place:
    """One end of a module. Two sites with equal places are one place with two names."""

    module: nn.Module
    end: End
    skip_of: nn.Module | None = None
    """The block whose skip past the MLP carries the same vectors, where it does."""
    is_half: bool = False
    """Whether only the first half of the width is meant."""
    is_normalised: bool = False
    """Whether what enters a norm is meant with unit size, before the norm's gain and bias."""
    is_read_only: bool = False
    """Whether an edit there would reach more than the site stands for."""

    def view(self, value: Tensor) -> Tensor:
        """What of a module's whole input or output stands at this place."""
        if self.is_half:
            return value[..., : value.shape[-1] // 2]
        return _normalised(self.module, value) if self.is_normalised else value

    def with_edit(self, value: Tensor, edit: Callable[[Tensor], Tensor]) -> Tensor:
        """A module's whole input or output with an edit of what stands at this place."""
        if not self.is_half:
            return edit(value)
        n = value.shape[-1] // 2
        return torch.cat((edit(value[..., :n]), value[..., n:]), dim=-1)


def find_place(anatomy: Anatomy, site: AnySite | str) -> Place:
    """Where a site is.

    Raises:
        SaeMismatch: it is no site's name, or the model has no such place.
    """
    try:
        parsed = parse_site(site) if isinstance(site, str) else site
    except ValueError as error:
        raise SaeMismatch(str(error)) from error
    if isinstance(parsed, ModuleSite):
        return Place(_module(anatomy, parsed), parsed.end)
    if parsed.hook == TOKEN_EMBED:
        return Place(anatomy.embedding, "output")
    return _place_in_block(anatomy, parsed)


def site_width(anatomy: Anatomy, site: AnySite | str) -> int | None:
    """How many numbers stand at a site for each token; None where only running would tell.

    Raises:
        SaeMismatch: the model has no such site.
    """
    place = find_place(anatomy, site)
    width = _width_of_end(place.module, place.end)
    if width is not None:
        return width // 2 if place.is_half else width
    parsed = parse_site(site) if isinstance(site, str) else site
    is_stream = isinstance(parsed, Site) or place.module in anatomy.blocks
    return anatomy.d_model if is_stream else None


def _place_in_block(anatomy: Anatomy, site: Site) -> Place:
    if not 0 <= site.layer < anatomy.n_layers:
        raise SaeMismatch(
            f"The site {site.name} is not in the open {anatomy.architecture} model: its "
            f"blocks are numbered 0 to {anatomy.n_layers - 1}."
        )
    find = _FINDERS.get(site.hook)
    if find is None:
        raise SaeMismatch(
            f"The site {site.name} is not one that is known here in the open "
            f"{anatomy.architecture} model; use {', '.join(_FINDERS)}, or the path of a module."
        )
    place = find(anatomy, site.layer)
    if place is None:
        raise SaeMismatch(
            f"The site {site.name} does not exist, or is not known, in the open "
            f"{anatomy.architecture} model; hook_resid_pre and hook_resid_post always do."
        )
    return place


def _resid_mid(anatomy: Anatomy, layer: int) -> Place | None:
    norm = anatomy.mid_norm(layer)
    return Place(norm, "input", skip_of=anatomy.blocks[layer]) if norm else None


def _mlp_in(anatomy: Anatomy, layer: int) -> Place | None:
    """The stream as the MLP alone reads it; where attention reads the same, not editable."""
    if anatomy.family.flattens_mlp:
        return None
    reader = anatomy.part(layer, anatomy.family.mlp_norm) or anatomy.mid_norm(layer)
    if reader is not None:
        return Place(reader, "input")
    if anatomy.family.mlp is None:
        return None
    return Place(anatomy.blocks[layer], "input", is_read_only=True)


def _mlp_pre(anatomy: Anatomy, layer: int) -> Place | None:
    module = _part_of_mlp(anatomy, layer, anatomy.family.mlp_pre)
    return Place(module, "output", is_half=anatomy.family.fuses_mlp_pre) if module else None


def _part_of_mlp(anatomy: Anatomy, layer: int, path: str | None) -> nn.Module | None:
    return None if anatomy.family.flattens_mlp else anatomy.part(layer, path)


def _end(module: nn.Module | None, end: End) -> Place | None:
    return Place(module, end) if module is not None else None


def _normalised_by(norm: nn.Module | None) -> Place | None:
    if norm is None:
        return None
    return Place(norm, "input", is_normalised=True, is_read_only=True)


_FINDERS: dict[str, Callable[[Anatomy, int], Place | None]] = {
    "hook_resid_pre": lambda a, n: Place(a.blocks[n], "input"),
    "hook_resid_mid": _resid_mid,
    "hook_resid_post": lambda a, n: Place(a.blocks[n], "output"),
    "hook_attn_out": lambda a, n: _end(a.part(n, a.family.attn_out), "output"),
    "attn.hook_z": lambda a, n: _end(a.part(n, a.family.attention_projection), "input"),
    "hook_mlp_in": _mlp_in,
    "hook_mlp_out": lambda a, n: _end(_part_of_mlp(a, n, a.family.mlp_out), "output"),
    "mlp.hook_in": lambda a, n: _end(a.part(n, a.family.mlp), "input"),
    "mlp.hook_out": lambda a, n: _end(a.part(n, a.family.mlp), "output"),
    "mlp.hook_pre": _mlp_pre,
    "mlp.hook_post": lambda a, n: _end(_part_of_mlp(a, n, a.family.mlp_projection), "input"),
    "ln1.hook_normalized": lambda a, n: _normalised_by(a.part(n, a.family.attention_norm)),
    "ln2.hook_normalized": lambda a, n: _normalised_by(a.part(n, a.family.mlp_norm)),
}
"""The hooks of a block, as TransformerLens names them."""


def _module(anatomy: Anatomy, site: ModuleSite) -> nn.Module:
    """A module by its whole path, its path in the base model, or its path in a block."""
    base = anatomy.network.base_model_prefix
    for path in (site.path, f"{base}.{site.path}"):
        try:
            module = anatomy.network.get_submodule(path)
        except AttributeError:
            continue
        return _runnable(anatomy, site, module)
    match = _IN_BLOCK.fullmatch(site.path)
    if match is not None and int(match[1]) < anatomy.n_layers:
        block = anatomy.blocks[int(match[1])]
        found = anatomy.part(int(match[1]), match[2]) if match[2] else block
        if found is not None:
            return _runnable(anatomy, site, found)
    raise SaeMismatch(
        f"The open {anatomy.architecture} model has no module {site.path!r}; its blocks are "
        f"called {anatomy.family.blocks}.0 to {anatomy.family.blocks}.{anatomy.n_layers - 1}."
    )


def _runnable(anatomy: Anatomy, site: ModuleSite, module: nn.Module) -> nn.Module:
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        raise SaeMismatch(
            f"{site.path!r} is a list of modules in the open {anatomy.architecture} model, so "
            "nothing enters or leaves it. Name one of them."
        )
    return module


def _width_of_end(module: nn.Module, end: End) -> int | None:
    if isinstance(module, nn.Linear):
        return module.in_features if end == "input" else module.out_features
    if isinstance(module, Conv1D):
        return int(module.nx if end == "input" else module.nf)
    if isinstance(module, nn.Embedding):
        return module.embedding_dim if end == "output" else None
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.dim() == 1:  # a norm's gain
        return len(weight)
    return None


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """What a norm makes of its input before gain and bias, float32, of the same shape.

    `x / sqrt(mean(x^2) + eps)`, and after subtraction of the mean where the norm does so.
    """
    wide = x.float()
    if "RMS" not in type(norm).__name__:
        wide = wide - wide.mean(dim=-1, keepdim=True)
    names = ("eps", "variance_epsilon")
    eps = next((getattr(norm, name) for name in names if hasattr(norm, name)), _EPS)
    return wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
