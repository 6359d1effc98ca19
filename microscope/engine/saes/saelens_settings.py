"""The `cfg.json` of an SAE saved by SAELens, in the layouts before and since its version 6.

Knows names and defaults; knows no tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from microscope.core.errors import SaeUnreadable
from microscope.core.sites import TOKEN_EMBED, Site
from microscope.engine.saes.json_file import read_object
from microscope.engine.saes.module_sites import site_at

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_FILE = "cfg.json"

_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
TRANSCODERS = (
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)
_READABLE = ("standard", "gated", "jumprelu", "topk", "abstopk", *TRANSCODERS)
_REFUSED = {
    "temporal": "a temporal SAE, whose reconstruction needs all tokens at once",
    "matching_pursuit": "a matching-pursuit SAE, which has no encoder in one step",
    "batchtopk": "a batch top-k SAE in training form, without the threshold it needs",
}
_CENTRED_HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
)
"""Where centred writing weights leave vectors without a mean."""

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class SaelensSettings(msgspec.Struct, frozen=True):
    """What `cfg.json` says, older names replaced by today's; unknown keys are left out."""

    d_in: Size
    d_sae: Size
    hook_name: str
    d_out: Size | None = None
    architecture: str = "standard"
    activation_fn: str = "relu"
    activation_fn_kwargs: dict[str, Any] | None = None
    k: Size | None = None
    rescale_acts_by_decoder_norm: bool | None = False
    apply_b_dec_to_input: bool = True
    normalize_activations: bool | str | None = None
    reshape_activations: str | None = None
    finetuning_scaling_factor: bool | None = False
    hook_name_out: str | None = None
    hook_head_index: int | None = None
    hf_hook_name: str | None = None
    hf_hook_name_out: str | None = None
    model_name: str | None = None
    model_from_pretrained_kwargs: dict[str, Any] | None = None

    @property
    def is_centred(self) -> bool:
        """Whether it was trained on a model whose writing weights were centred."""
        return bool((self.model_from_pretrained_kwargs or {}).get("center_writing_weights"))

    @property
    def is_transcoder(self) -> bool:
        """Whether it reads at one site and writes at another."""
        return self.architecture in TRANSCODERS

    @property
    def width_out(self) -> int:
        """The width of what is reconstructed."""
        return (self.d_out or self.d_in) if self.is_transcoder else self.d_in


def read_settings(folder: Path) -> SaelensSettings:
    """Read and check a folder's `cfg.json`.

    Raises:
        SaeUnreadable: it is no valid settings file, or of an SAE that cannot be opened here.
    """
    path = folder / SETTINGS_FILE
    try:
        settings = msgspec.convert(_flat(read_object(path)), SaelensSettings)
        settings = _with_topk_made_explicit(settings)
    except msgspec.ValidationError as error:
        raise SaeUnreadable(f"{path} is not the settings of an SAE: {error}.") from error
    _check_architecture(path, settings)
    return settings


def site_of(folder: Path, settings: SaelensSettings) -> str:
    """The site that the SAE reads.

    Raises:
        SaeUnreadable: its name is not that of a place in a model, or it reads single heads.
    """
    if settings.hook_head_index is not None:
        raise SaeUnreadable(
            f"The SAE in {folder} reads {settings.hook_name!r}, head "
            f"{settings.hook_head_index}; SAEs of all heads at once can be opened."
        )
    return _first_site(folder, settings.hook_name, settings.hf_hook_name)


def site_out_of(folder: Path, settings: SaelensSettings) -> str:
    """The site where a transcoder writes; empty for an SAE, which writes where it reads.

    Raises:
        SaeUnreadable: the settings name no such site.
    """
    if not settings.is_transcoder:
        return ""
    return _first_site(folder, settings.hook_name_out, settings.hf_hook_name_out)


def is_centred_at(site: str) -> bool:
    """Whether centred writing weights change what stands at a site."""
    return site.rpartition(".")[2] in _CENTRED_HOOKS


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    """Both layouts as one: `metadata` lifted to the top, old names replaced."""
    metadata = plain.get("metadata")
    lifted = {**metadata, **plain} if isinstance(metadata, dict) else plain
    renamed = {new: lifted[old] for old, new in _RENAMED.items() if old in lifted}
    return {**renamed, **lifted}


def _with_topk_made_explicit(settings: SaelensSettings) -> SaelensSettings:
    """Before version 6 top-k was an activation function of the standard architecture."""
    if settings.architecture != "standard" or settings.activation_fn != "topk":
        return settings
    arguments = settings.activation_fn_kwargs or {}
    k = msgspec.convert(arguments.get("k", settings.k), Size | None)
    return msgspec.structs.replace(settings, architecture="topk", k=k)


def _check_architecture(path: Path, settings: SaelensSettings) -> None:
    name = settings.architecture
    if name not in _READABLE:
        kind = _REFUSED.get(name, f"an SAE of the architecture {name!r}")
        raise SaeUnreadable(
            f"{path.parent} holds {kind}. The architectures {', '.join(_READABLE)} can be "
            "opened."
        )
    writes_elsewhere = settings.hook_name_out not in (None, settings.hook_name)
    if writes_elsewhere and not settings.is_transcoder:
        raise SaeUnreadable(
            f"{path} writes at {settings.hook_name_out!r}, as a transcoder does, but has the "
            f"architecture {name!r}; one of {', '.join(TRANSCODERS)} was expected."
        )
    if name == "standard" and settings.activation_fn != "relu":
        raise SaeUnreadable(
            f"The SAE in {path.parent} has the activation function "
            f"{settings.activation_fn!r}; relu and topk can be opened."
        )
    if name in ("topk", "abstopk") and (settings.k is None or settings.k > settings.d_sae):
        raise SaeUnreadable(
            f"{path} gives a top-k SAE of {settings.d_sae} features the k {settings.k}; "
            "it must be between 1 and the number of features."
        )


def _first_site(folder: Path, *names: str | None) -> str:
    found = (site for site in map(_site, names) if site)
    site = next(found, None)
    if site is None:
        raise SaeUnreadable(
            f"The SAE in {folder} names the site {names[0]!r}, which is neither a hook such as "
            "'blocks.6.hook_resid_post' nor the path of a module."
        )
    return site


def _site(name: str | None) -> str | None:
    """A hook's name as it is; a module's path means its output."""
    try:
        if name and (name == TOKEN_EMBED or name.startswith("blocks.")):
            return Site.parse(name).name
        return site_at(name, "output") if name and "." in name else None
    except ValueError:
        return None
