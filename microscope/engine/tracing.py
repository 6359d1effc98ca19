"""Reads and edits what stands at sites while a network runs, by forward hooks.

Knows in which order hooks run; not where sites are, nor what an edit is for. A recorder sees
the edited value, whichever of the two was attached first.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from microscope.core.errors import SaeMismatch
from microscope.engine.sites import Place, find_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from microscope.core.sites import AnySite
    from microscope.engine.architectures import Anatomy

    Edit = Callable[[Tensor], Tensor]
    Inputs = tuple[tuple[Any, ...], dict[str, Any]]

_LAST = 9


class Taps(dict[str, Tensor]):
    """What stood at sites, by name; a site is absent until the network has come past it.

    All of it is on one device, whichever its block is on.
    """

    def __init__(self, home: torch.device) -> None:
        self._home = home
        super().__init__()

    def __setitem__(self, name: str, value: Tensor) -> None:
        super().__setitem__(name, value.to(self._home))

    def __missing__(self, name: str) -> Tensor:
        raise SaeMismatch(
            f"The open model did not come past the site {name} when it ran, so nothing can be "
            "read there."
        )


@contextmanager
def tapped(anatomy: Anatomy, sites: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Record what stands at sites while the `with` block runs the network.

    Yields a mapping from site name to (n_rows, n_tokens, width) in the network's dtype
    (float32 for `hook_normalized`), as the network's last call left it.

    Raises:
        SaeMismatch: the model has no such site.
    """
    taps = Taps(anatomy.network.device)
    with ExitStack() as stack:
        for name in sites:
            tap = _tap(find_place(anatomy, name), name, taps)
            stack.callback(tap.attach().remove)
        yield taps


def attach_edit(anatomy: Anatomy, site: AnySite | str, edit: Edit) -> list[RemovableHandle]:
    """Replace what stands at a site by `edit` of it, until the handles are removed.

    `edit` gets (n_rows, n_new, width) in the network's dtype and returns the like, out of
    place. At resid_mid the stream is read twice, by the norm and by the skip past the MLP;
    both get the edit.

    Raises:
        SaeMismatch: the model has no such site, or it can be read only.
    """
    place, edit = find_place(anatomy, site), _at_home(edit, anatomy.network.device)
    if place.is_read_only:
        name = site if isinstance(site, str) else site.name
        raise SaeMismatch(
            f"The site {name} of the open {anatomy.architecture} model can be read but not "
            "edited: other parts of the block read the same module."
        )
    if place.skip_of is not None:
        mid = _MidEdit(edit)
        return [
            _InputEdit(place, mid.edit_norm_input, rank=0).attach(),
            _OutputEdit(Place(place.skip_of, "output"), mid.edit_skip, rank=0).attach(),
        ]
    if place.end == "input":
        return [_InputEdit(place, edit, rank=2).attach()]
    return [_OutputEdit(place, edit, rank=1).attach()]


def _at_home(edit: Edit, home: torch.device) -> Edit:
    """An edit that is computed on one device, whichever the block is on."""
    return lambda value: edit(value.to(home)).to(value.device)


def _tap(place: Place, name: str, taps: dict[str, Tensor]) -> _InputTap | _OutputTap:
    if place.end == "output":
        return _OutputTap(place, name, taps, rank=2)
    # What the MLP alone reads may differ from the stream once it has been edited.
    return _InputTap(place, name, taps, rank=3 if place.skip_of is None else 1)


class _Hook:
    """A forward hook at a place.

    At one end of a module hooks run by rank. Inputs: edits of resid_mid, its recorders, other
    edits, other recorders. Outputs: what resid_mid's edits do to the skip, edits, recorders.
    """

    def __init__(self, place: Place, *, rank: int) -> None:
        self.place = place
        self.rank = rank

    def attach(self) -> RemovableHandle:
        """Attach to the module, in front of hooks of a higher rank and of foreign ones."""
        module = self.place.module
        if self.place.end == "input":
            handle = module.register_forward_pre_hook(self, with_kwargs=True)
            _sort(module._forward_pre_hooks)
        else:
            handle = module.register_forward_hook(self)
            _sort(module._forward_hooks)
        return handle

    def __call__(self, _module: nn.Module, args: Any, more: Any) -> Any:
        """What torch calls: with positional and keyword inputs, or with inputs and output."""
        raise NotImplementedError


class _InputTap(_Hook):
    def __init__(self, place: Place, name: str, taps: dict[str, Tensor], *, rank: int) -> None:
        super().__init__(place, rank=rank)
        self._name = name
        self._taps = taps

    def __call__(self, _module: nn.Module, args: Any, more: Any) -> None:
        self._taps[self._name] = self.place.view(_input_of(args, more).detach())


class _OutputTap(_InputTap):
    def __call__(self, _module: nn.Module, args: Any, more: Any) -> None:
        self._taps[self._name] = self.place.view(_first_of(more).detach())


class _InputEdit(_Hook):
    def __init__(self, place: Place, edit: Edit, *, rank: int) -> None:
        super().__init__(place, rank=rank)
        self._edit = edit

    def __call__(self, _module: nn.Module, args: Any, more: Any) -> Any:
        edited = self.place.with_edit(_input_of(args, more), self._edit)
        return _with_input(args, more, edited)


class _OutputEdit(_InputEdit):
    """Keeps the kind of the module's output."""

    def __call__(self, _module: nn.Module, args: Any, more: Any) -> Any:
        edited = self.place.with_edit(_first_of(more), self._edit)
        return (edited, *more[1:]) if isinstance(more, tuple) else edited


def _sort(hooks: Any) -> None:
    """Order the hooks of one end of a module by rank; those of equal rank stay as they were.

    torch has a public way to put a hook in front of all others only; this is the step by
    which it does so itself.
    """
    for key in sorted(hooks, key=lambda key: getattr(hooks[key], "rank", _LAST)):
        hooks.move_to_end(key)


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
    value: Tensor = args[0] if args else kwargs[_input_name(kwargs)]
    return value


def _with_input(args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> Inputs:
    if args:
        return (value, *args[1:]), kwargs
    return args, {**kwargs, _input_name(kwargs): value}


def _input_name(kwargs: dict[str, Any]) -> str:
    """The keyword of a module's main input, where nothing is given by position."""
    tensors = (name for name, value in kwargs.items() if isinstance(value, Tensor))
    return "hidden_states" if "hidden_states" in kwargs else next(tensors)


def _first_of(output: Any) -> Tensor:
    value: Tensor = output[0] if isinstance(output, tuple) else output
    return value
