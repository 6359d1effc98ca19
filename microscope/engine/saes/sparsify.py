"""SAEs and transcoders by EleutherAI's sparsify: `cfg.json` and `sae.safetensors`.

The folder's name is the module that was hooked, as a path inside the base model:
`layers.10`, `layers.10.mlp`, `h.3.attn`, `embed_tokens`; below it there may be one folder for
every seed. An SAE reads and reconstructs the module's output; a transcoder reads its input.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.sites import resid_post
from microscope.engine.saes.activations import AbsTopK, GroupMax, TopK
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.json_file import read_object
from microscope.engine.saes.module_sites import is_known_path, site_at
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.sae import Sae
from microscope.engine.saes.tensor_file import opened
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from microscope.engine.saes.activations import Activation

SETTINGS_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"

_SEED = re.compile(r"seed\d+")
_OLD_NAME = re.compile(r"layer_(\d{1,5})")

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class _Settings(msgspec.Struct, frozen=True):
    """What `cfg.json` says; keys that matter in training only are left out."""

    d_in: Size
    k: Size
    expansion_factor: Size = 32
    num_latents: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] = 0
    signed: bool = False
    activation: str = "topk"
    skip_connection: bool = False
    transcode: bool = False

    @property
    def n_features(self) -> int:
        return self.num_latents or self.d_in * self.expansion_factor

    @property
    def architecture(self) -> str:
        kind = "abstopk" if self.signed else self.activation
        skip = "_skip" if self.skip_connection else ""
        return kind + skip + ("_transcoder" if self.transcode else "")


def recognises(path: Path) -> bool:
    """Whether a folder has both files."""
    return (path / SETTINGS_FILE).is_file() and (path / WEIGHTS_FILE).is_file()


def outline(folder: Path) -> SaeCard:
    """What the folder's name and settings say. Raises `SaeUnreadable`."""
    settings = _read_settings(folder)
    site, site_out = _sites(folder, is_transcoder=settings.transcode)
    return SaeCard(
        name=site,
        source=str(folder),
        site=site,
        architecture=settings.architecture,
        n_features=settings.n_features,
        d_in=settings.d_in,
        is_folded=False,
        site_out=site_out,
    )


def read(folder: Path, device: torch.device) -> Sae:
    """The SAE or transcoder in a folder.

    Raises:
        SaeUnreadable: settings or weights are damaged, or of a kind that cannot be opened.
    """
    card = outline(folder)
    settings = _read_settings(folder)
    d_in, n_features = card.d_in, card.n_features
    with opened(folder / WEIGHTS_FILE, device) as weights:
        sae = Sae(
            card=card,
            w_enc=weights.matrix("encoder.weight", n_features, d_in).T,
            b_enc=weights.read("encoder.bias", n_features),
            w_dec=weights.matrix("W_dec", n_features, d_in),
            b_dec=weights.read("b_dec", d_in),
            activation=_activation(settings),
            normalisation=Unnormalised(),
            subtracts_b_dec=not settings.transcode,
        )
        if settings.transcode or settings.skip_connection:
            skip = weights.matrix("W_skip", d_in, d_in) if settings.skip_connection else None
            sae = Transcoder(**vars(sae), w_skip=skip)
        return sae.folded()


def _read_settings(folder: Path) -> _Settings:
    path = folder / SETTINGS_FILE
    try:
        settings = msgspec.convert(read_object(path), _Settings)
    except msgspec.ValidationError as error:
        raise SaeUnreadable(f"{path} is not the settings of an SAE: {error}.") from error
    _check(path, settings)
    return settings


def _check(path: Path, settings: _Settings) -> None:
    k, n_features = settings.k, settings.n_features
    if settings.activation not in ("topk", "groupmax"):
        raise SaeUnreadable(
            f"{path} names the activation {settings.activation!r}; topk and groupmax can be "
            "opened."
        )
    if k > n_features:
        raise SaeUnreadable(f"{path} asks for {k} active features of {n_features}.")
    if settings.activation == "groupmax" and (n_features % k or settings.signed):
        raise SaeUnreadable(
            f"{path} asks for {k} groups of equal size, but has {n_features} features; or for "
            "signed ones, which groupmax does not have."
        )


def _activation(settings: _Settings) -> Activation:
    if settings.activation == "groupmax":
        return GroupMax(settings.k)
    return AbsTopK(settings.k) if settings.signed else TopK(settings.k)


def _sites(folder: Path, *, is_transcoder: bool) -> tuple[str, str]:
    """Where it reads, and where it writes if that is elsewhere."""
    module = folder.parent.name if _SEED.fullmatch(folder.name) else folder.name
    old = _OLD_NAME.fullmatch(module)
    if old is not None and not is_transcoder:
        return resid_post(int(old[1])), ""
    if not is_known_path(module):
        raise SaeUnreadable(
            f"The SAE in {folder} does not say what it reads: its folder has to keep the name "
            "of the module that was hooked, such as layers.10, layers.10.mlp or embed_tokens."
        )
    output = site_at(module, "output")
    return (site_at(module, "input"), output) if is_transcoder else (output, "")


SPARSIFY = SaeFormat("sparsify", recognises, outline, read)
