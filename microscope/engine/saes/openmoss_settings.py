"""The settings of SAEs by OpenMOSS (Llama Scope among them), in each of their three layouts.

Knows names and defaults; knows no tensors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from microscope.core.errors import SaeUnreadable
from microscope.core.sites import Site
from microscope.engine.saes.json_file import read_object
from microscope.engine.saes.normalisations import (
    ConstantNorm,
    Normalisation,
    StaticScale,
    Unnormalised,
)

if TYPE_CHECKING:
    from pathlib import Path

FACTOR_MISSING = (
    "This SAE was trained on activations scaled by a factor that its files do not hold, so its "
    "activations and its error may be far off."
)

_SAE_TYPES = ("sae", "transcoder")
_LARGEST = 1e30
"""Numbers beyond this, or norms below its inverse, overflow float32 sooner or later."""
_PLAIN = (None, "none", "inference")

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class OpenMossSettings(msgspec.Struct, frozen=True):
    """What the settings file says; unknown keys are left out."""

    hook_point_in: str
    hook_point_out: str | None = None
    sae_type: str = "sae"
    act_fn: str = "relu"
    jump_relu_threshold: float = 0.0
    top_k: Size | None = None
    norm_activation: str | None = None
    dataset_average_activation_norm: dict[str, float] | None = None
    sparsity_include_decoder_norm: bool = True
    use_decoder_bias: bool = True
    apply_decoder_bias_to_pre_encoder: bool = False
    use_glu_encoder: bool = False

    @property
    def site(self) -> str:
        """Where it reads."""
        return self.hook_point_in

    @property
    def site_out(self) -> str:
        """Where it writes, if that is elsewhere."""
        hook = self.hook_point_out or self.hook_point_in
        return "" if hook == self.hook_point_in else hook

    @property
    def needs_norms(self) -> bool:
        """Whether activations were scaled by the mean length over the training data."""
        return self.norm_activation == "dataset-wise"


def read_settings(path: Path) -> OpenMossSettings:
    """Read and check a settings file.

    Raises:
        SaeUnreadable: it is no valid settings file, or of an SAE that cannot be opened here.
    """
    try:
        settings = msgspec.convert(_known_keys(read_object(path)), OpenMossSettings)
    except msgspec.ValidationError as error:
        raise SaeUnreadable(f"{path} is not the settings of an SAE: {error}.") from error
    if settings.sae_type not in _SAE_TYPES:
        raise SaeUnreadable(
            f"{path} describes an SAE of the type {settings.sae_type!r}; the types "
            f"{', '.join(_SAE_TYPES)} can be opened."
        )
    if not abs(settings.jump_relu_threshold) < _LARGEST:
        raise SaeUnreadable(f"{path} gives the threshold {settings.jump_relu_threshold}.")
    if settings.use_glu_encoder:
        raise SaeUnreadable(f"The SAE of {path} has a gated linear encoder, not known here.")
    for site in (settings.site, settings.site_out or settings.site):
        _check_site(path, site)
    return settings


def architecture_of(settings: OpenMossSettings, *, has_threshold: bool) -> str:
    """The name of the architecture, as other formats call it."""
    activation = "jumprelu" if has_threshold else settings.act_fn
    activation = "standard" if activation == "relu" else activation
    return f"{activation}_transcoder" if settings.site_out else activation


def unit_of(normalisation: Normalisation) -> float:
    """What 1 of an SAE's scaled space is worth in the stream, if that is one number."""
    return normalisation.unit if isinstance(normalisation, StaticScale) else 1.0


def normalisation(
    path: Path, settings: OpenMossSettings, d_in: int, d_out: int, norms: tuple[float, ...]
) -> Normalisation:
    """How activations were scaled before the SAE saw them.

    Args:
        path: the settings file.
        settings: what it says.
        d_in: the width of what is read.
        d_out: the width of what is reconstructed.
        norms: the mean length of each over the training data; empty where not known.

    Raises:
        SaeUnreadable: the way of scaling is not known here, or a length is not positive.
    """
    mode = settings.norm_activation
    if settings.apply_decoder_bias_to_pre_encoder and d_in != d_out:
        raise SaeUnreadable(f"{path} subtracts a bias of width {d_out} from width {d_in}.")
    if mode in _PLAIN or (settings.needs_norms and not norms):
        return Unnormalised()
    if mode == "token-wise" and not settings.site_out:
        return ConstantNorm()
    if not settings.needs_norms:
        raise SaeUnreadable(f"The SAE of {path} normalises activations by {mode!r}, not known.")
    if not all(1 / _LARGEST < norm < _LARGEST for norm in norms):
        raise SaeUnreadable(f"{path} gives {norms} as mean activation norms; they must be > 0.")
    return StaticScale(math.sqrt(d_in) / norms[0], math.sqrt(d_out) / norms[1])


def _known_keys(plain: dict[str, Any]) -> dict[str, Any]:
    """What is given; a key that holds null counts as absent."""
    return {key: value for key, value in plain.items() if value is not None}


def _check_site(path: Path, site: str) -> None:
    try:
        Site.parse(site)
    except ValueError as error:
        raise SaeUnreadable(f"{path} names a place that is not known: {error}") from error
