"""The `config.yaml` beside the files of transcoders for circuit-tracer.

Knows names and defaults; knows no tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from microscope.core.errors import SaeUnreadable
from microscope.core.sites import Site

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_FILE = "config.yaml"

_TRAINING_FILES = ("wandb-config.yaml", "wanb-config.yaml")
"""A training run's own settings, beside which the hooks are always the same pair."""

_MAX_BYTES = 1 << 18
_MAX_BRACKETS = 1000
_USUAL_PAIR = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out"}


class CircuitTracerSettings(msgspec.Struct, frozen=True):
    """Which hooks of each block are read and written; other keys are left out."""

    feature_input_hook: str
    feature_output_hook: str
    model_kind: str = ""

    def site(self, layer: int) -> str:
        """Where a layer's features are read."""
        return Site(layer, self.feature_input_hook).name

    def site_out(self, layer: int) -> str:
        """Where a layer's reconstruction belongs."""
        return Site(layer, self.feature_output_hook).name


def has_settings(folder: Path) -> bool:
    """Whether a folder has a settings file of any of the known names."""
    return any((folder / name).is_file() for name in (SETTINGS_FILE, *_TRAINING_FILES))


def read_settings(folder: Path, kind: str) -> CircuitTracerSettings:
    """Read and check a folder's settings.

    Args:
        folder: where `config.yaml` is, or a training run's settings.
        kind: the `model_kind` that is expected, if one is named at all.

    Raises:
        SaeUnreadable: it is no valid settings file, or of another kind.
    """
    path = folder / SETTINGS_FILE
    plain = _parsed(path) if path.is_file() else _USUAL_PAIR
    try:
        settings = msgspec.convert(plain, CircuitTracerSettings)
        Site.parse(settings.site(0)), Site.parse(settings.site_out(0))
    except (msgspec.ValidationError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise SaeUnreadable(f"{path} is not the settings of transcoders: {reason}.") from error
    if settings.model_kind not in ("", kind):
        raise SaeUnreadable(
            f"{path} describes a {settings.model_kind!r}, but the files beside it are those of "
            f"a {kind!r}."
        )
    return settings


def _parsed(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SaeUnreadable(f"{path} is far too large for a settings file.")
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > _MAX_BRACKETS:  # parsing takes their square
            raise SaeUnreadable(f"{path} cannot be read as YAML: it has far too many brackets.")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise SaeUnreadable(f"{path} repeats parts of itself, which may have no end.")
        plain = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        line = str(error).partition("\n")[0]
        raise SaeUnreadable(f"{path} cannot be read as YAML ({line}).") from error
    if not isinstance(plain, dict):
        raise SaeUnreadable(f"{path} holds no YAML mapping.")
    return {key: value for key, value in plain.items() if isinstance(key, str) and value}
