"""The `config.json` of a dictionary_learning run: the trainer's settings and the site.

Knows names; knows no tensors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from microscope.core.errors import SaeUnreadable
from microscope.core.sites import Site
from microscope.engine.saes.json_file import read_object
from microscope.engine.saes.module_sites import is_known_path, site_at

if TYPE_CHECKING:
    from pathlib import Path

    from microscope.core.sites import End

SETTINGS_FILE = "config.json"

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]

_LAYER = re.compile(r"layer_?(\d{1,5})")
_HOOKS: tuple[tuple[re.Pattern[str], End, str], ...] = (
    (re.compile("resid_?pre"), "output", "hook_resid_pre"),
    (re.compile("resid_?mid"), "output", "hook_resid_mid"),
    (re.compile(r"(?:^|[^a-z])mlp"), "input", "mlp.hook_in"),
    (re.compile(r"(?:^|[^a-z])mlp"), "output", "mlp.hook_out"),
    (re.compile(r"(?:^|[^a-z])att(?:n|ention)"), "output", "hook_attn_out"),
    (re.compile("resid"), "input", "hook_resid_pre"),
    (re.compile("resid"), "output", "hook_resid_post"),
)
"""Words in the name of what was hooked, which end of it, and what that is; first match wins."""


class TrainerSettings(msgspec.Struct, frozen=True):
    """What is known of one SAE; keys that matter in training only are left out."""

    dict_class: str
    activation_dim: Size
    dict_size: Size
    k: int | None = None
    layer: Annotated[int, msgspec.Meta(ge=0, le=99_999)] | None = None
    submodule_name: str | None = None
    io: Literal["in", "out", "in_and_out"] = "out"


class _Buffer(msgspec.Struct, frozen=True):
    io: Literal["in", "out", "in_and_out"] = "out"


class _Run(msgspec.Struct, frozen=True):
    trainer: TrainerSettings
    buffer: _Buffer | None = None


def read_trainer(path: Path) -> TrainerSettings:
    """Read and check a `config.json`. Raises `SaeUnreadable`."""
    try:
        run = msgspec.convert(read_object(path), _Run)
    except msgspec.ValidationError as error:
        raise SaeUnreadable(
            f"{path} is not the settings of a dictionary_learning run: {error}."
        ) from error
    return msgspec.structs.replace(run.trainer, io=(run.buffer or _Buffer()).io)


def site_of(folder: Path, trainer: TrainerSettings) -> str:
    """The site that the SAE reads: what the settings, or the folders' names, say was hooked.

    Raises:
        SaeUnreadable: they say nothing, or something that is not known here.
    """
    if trainer.io == "in_and_out":
        raise SaeUnreadable(
            f"The dictionary in {folder} maps a module's input to its output (io in_and_out); "
            "dictionaries that reconstruct what they read can be opened."
        )
    end: End = "input" if trainer.io == "in" else "output"
    hooked = trainer.submodule_name or _named_after_layer(folder) or "resid"
    if is_known_path(hooked):
        return site_at(hooked, end)
    layer = _layer(hooked, trainer)
    hook = next((hook for word, at, hook in _HOOKS if at == end and word.search(hooked)), None)
    if layer is None or hook is None:
        raise SaeUnreadable(
            f"{folder / SETTINGS_FILE} does not say which place of which layer the dictionary "
            f"reads (layer {trainer.layer}, submodule_name {trainer.submodule_name!r})."
        )
    return Site(layer, hook).name


def _named_after_layer(folder: Path) -> str | None:
    """The nearest folder with a name such as `resid_post_layer_8`."""
    return next((part for part in reversed(folder.parts[-3:]) if _LAYER.search(part)), None)


def _layer(hooked: str, trainer: TrainerSettings) -> int | None:
    if trainer.layer is not None:
        return trainer.layer
    number = _LAYER.search(hooked)
    return None if number is None else int(number[1])
