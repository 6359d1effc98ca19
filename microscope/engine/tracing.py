"""Reads and edits the residual stream at sites, by forward hooks.

Knows where a site is and in which order hooks run; not what an edit is for. A recorder sees
the edited value, whichever of the two was attached first. Sites: `embed` (what enters the
first block) and `blocks.L.hook_resid_pre`, `hook_resid_mid`, `hook_resid_post`.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from microscope.core.errors import SaeMismatch
from microscope.core.sites import EMBED, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch.utils.hooks import RemovableHandle

    from microscope.engine.architectures import Anatomy

    Edit = Callable[[Tensor], Tensor]
    Inputs = tuple[tuple[Any, ...], dict[str, Any]]

RESID_PRE, RESID_MID, RESID_POST = "hook_resid_pre", "hook_resid_mid", "hook_resid_post"


@contextmanager
def tapped(anatomy: Anatomy, sites: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Record the residual stream at sites while the `with` block runs the network.

    Yields a mapping from site name to (n_rows, n_tokens, d_model) in the network's dtype, as
    the network's last call left it; a site is absent until the network has run.

    Raises:
        SaeMismatch: the model has no such site.
    """
    taps: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name in sites:
            stack.callback(_attach_tap(anatomy, name, taps).remove)
        yield taps


def attach_edit(anatomy: Anatomy, site: Site, edit: Edit) -> list[RemovableHandle]:
    """Replace the residual stream at a site by `edit` of it, until the handles are removed.

    `edit` gets (n_rows, n_new, d_model) in the network's dtype and returns the like, out of
    place. At resid_mid the stream is read twice, by the norm and by the skip past the MLP;
    both get the edit.

    Raises:
        SaeMismatch: the model has no such site.
    """
    _check_site(anatomy, site)
    block = anatomy.blocks[site.layer]
    if site.hook == RESID_PRE:
        return [_attach_input_edit(block, edit)]
    if site.hook == RESID_POST:
        handle = _attach_output_hook(block, _OutputEdit(edit))
        _move_skip_edits_to_front(block)
        return [handle]
    mid = _MidEdit(edit)
    return [
        _attach_input_edit(_mid_norm(anatomy, site), mid.edit_norm_input),
        _attach_output_hook(block, _SkipEdit(mid.edit_skip)),
    ]


def _attach_tap(anatomy: Anatomy, name: str, taps: dict[str, Tensor]) -> RemovableHandle:
    site = _parse(anatomy, name)
    block = anatomy.blocks[site.layer]

    def keep_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taps[name] = _input_of(args, kwargs).detach()

    def keep_output(_module: nn.Module, _args: object, output: Any) -> None:
        taps[name] = _residual_of(output).detach()

    if site.hook == RESID_POST:
        return block.register_forward_hook(keep_output)
    reader = block if site.hook == RESID_PRE else _mid_norm(anatomy, site)
    return reader.register_forward_pre_hook(keep_input, with_kwargs=True)


def _attach_input_edit(module: nn.Module, edit: Edit) -> RemovableHandle:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
        return _with_input(args, kwargs, edit(_input_of(args, kwargs)))

    return module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)


def _attach_output_hook(block: nn.Module, hook: _OutputEdit) -> RemovableHandle:
    return block.register_forward_hook(hook, prepend=True)


class _OutputEdit:
    """A forward hook that edits a block's residual and keeps the kind of its output."""

    def __init__(self, edit: Edit) -> None:
        self._edit = edit

    def __call__(self, _module: nn.Module, _args: object, output: Any) -> Any:
        edited = self._edit(_residual_of(output))
        return (edited, *output[1:]) if isinstance(output, tuple) else edited


class _SkipEdit(_OutputEdit):
    """The half of a resid_mid edit that is made at the end of the block."""


def _move_skip_edits_to_front(block: nn.Module) -> None:
    """Let an edit of resid_post see the block's output with every resid_mid edit in it.

    Of two prepended hooks the later one runs first, and torch has no public way to say
    otherwise; this is the step by which `prepend=True` itself puts a hook in front.
    """
    for key, hook in list(block._forward_hooks.items()):
        if isinstance(hook, _SkipEdit):
            block._forward_hooks.move_to_end(key, last=False)  # type: ignore[attr-defined]


class _MidEdit:
    """One edit of resid_mid: seen by the norm, then made up for on the skip past the MLP."""

    def __init__(self, edit: Edit) -> None:
        self._edit = edit
        self._delta: Tensor | None = None

    def edit_norm_input(self, residual: Tensor) -> Tensor:
        edited = self._edit(residual)
        wide = torch.promote_types(residual.dtype, torch.float32)
        self._delta = edited.to(wide) - residual.to(wide)
        return edited

    def edit_skip(self, residual: Tensor) -> Tensor:
        delta, self._delta = self._delta, None
        if delta is None:  # the norm was not run, so nothing was edited
            return residual
        return (residual + delta).to(residual.dtype)


def _input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    residual: Tensor = args[0] if args else kwargs["hidden_states"]
    return residual


def _with_input(args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> Inputs:
    if args:
        return (value, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": value}


def _residual_of(output: Any) -> Tensor:
    residual: Tensor = output[0] if isinstance(output, tuple) else output
    return residual


def _parse(anatomy: Anatomy, name: str) -> Site:
    if name == EMBED:
        return Site(0, RESID_PRE)
    try:
        site = Site.parse(name)
    except ValueError as error:
        raise SaeMismatch(str(error)) from error
    _check_site(anatomy, site)
    return site


def _check_site(anatomy: Anatomy, site: Site) -> None:
    if not 0 <= site.layer < anatomy.n_layers:
        raise SaeMismatch(
            f"The site {site.name} is not in the open {anatomy.architecture} model: its "
            f"blocks are numbered 0 to {anatomy.n_layers - 1}."
        )
    if site.hook not in (RESID_PRE, RESID_MID, RESID_POST):
        raise SaeMismatch(
            f"The site {site.name} is not a place in the residual stream of the open "
            f"{anatomy.architecture} model; use {RESID_PRE}, {RESID_MID} or {RESID_POST}."
        )
    if site.hook == RESID_MID:
        _mid_norm(anatomy, site)


def _mid_norm(anatomy: Anatomy, site: Site) -> nn.Module:
    norm = anatomy.mid_norm(site.layer)
    if norm is None:
        raise SaeMismatch(
            f"The site {site.name} does not exist, or is not known, in the open "
            f"{anatomy.architecture} model; use {RESID_PRE} or {RESID_POST}."
        )
    return norm
