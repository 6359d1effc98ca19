"""Gemma Scope, for Gemma 2: one `params.npz` an SAE, whose folders say what it reads.

`<repository>/layer_20/width_16k/average_l0_71/params.npz`: JumpReLU, thresholds as they are,
no subtraction of the decoder's bias, normalisation folded in already (Lieberum et al. 2024).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.sites import TOKEN_EMBED, Site
from microscope.engine.saes.activations import JumpReLU
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import StaticScale, Unnormalised
from microscope.engine.saes.npz_file import NpzFile, array_names, opened
from microscope.engine.saes.sae import Sae
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.normalisations import Normalisation

_CPU = torch.device("cpu")
_LAYER = re.compile(r"layer_(\d{1,5})")
_RELEASE = re.compile(r"gemma-scope-\w+-(?:pt|it)-(res|mlp|att|transcoders)")
_HOOKS = {  # where each release reads and, where that is elsewhere, writes
    "res": ("hook_resid_post", ""),
    "mlp": ("hook_mlp_out", ""),
    "att": ("attn.hook_z", ""),
    "transcoders": ("ln2.hook_normalized", "hook_mlp_out"),
}
_SITE_ASSUMED = (
    "No folder above the file names its release (such as gemma-scope-2b-pt-res), so it is "
    "taken for an SAE of the residual stream after a block."
)


@dataclass(frozen=True)
class _Place:
    """What the folders above a file say."""

    site: str
    site_out: str = ""
    remark: str = ""


def recognises(path: Path) -> bool:
    """Whether a path is an `.npz` file with an encoder and a decoder."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    return {"w_enc", "w_dec"} <= {name.lower() for name in array_names(path)}


def outline(path: Path) -> SaeCard:
    """What the folders and the arrays' headers say. Raises `SaeUnreadable`."""
    with opened(path, _CPU) as arrays:
        return _card(path, arrays)


def read(path: Path, device: torch.device) -> Sae:
    """The SAE or transcoder in a file, decoder norms folded in.

    Raises:
        SaeUnreadable: the file is damaged, or its folders do not say what it reads.
    """
    with opened(path, device) as arrays:
        card = _card(path, arrays)
        kind = Transcoder if card.site_out else Sae
        return kind(
            card=card,
            w_enc=arrays.matrix(_stored_name(arrays, "W_enc"), card.d_in, card.n_features),
            b_enc=_read(arrays, "b_enc", card.n_features),
            w_dec=arrays.matrix(_stored_name(arrays, "W_dec"), card.n_features, card.d_in),
            b_dec=_read(arrays, "b_dec", card.d_in),
            activation=JumpReLU(_read(arrays, "threshold", card.n_features)),
            normalisation=_normalisation(path, card.d_in),
            subtracts_b_dec=False,
        ).folded()


def _card(path: Path, arrays: NpzFile) -> SaeCard:
    d_in, n_features = arrays.shape(_stored_name(arrays, "W_enc"), 2)
    place = _place_of(path)
    return SaeCard(
        name=place.site,
        source=str(path),
        site=place.site,
        architecture="jumprelu",
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        remark=place.remark,
        site_out=place.site_out,
    )


def _place_of(path: Path) -> _Place:
    if _is_of_embedding(path):
        return _Place(TOKEN_EMBED)
    layers = [match for part in path.parts if (match := _LAYER.fullmatch(part))]
    if not layers:
        raise SaeUnreadable(
            f"{path} does not say which layer it reads: keep it in its folders, as in "
            "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz."
        )
    releases = _RELEASE.findall(str(path))
    hook, hook_out = _HOOKS[releases[-1] if releases else "res"]
    layer = int(layers[-1][1])
    return _Place(
        site=Site(layer, hook).name,
        site_out=Site(layer, hook_out).name if hook_out else "",
        remark="" if releases else _SITE_ASSUMED,
    )


def _is_of_embedding(path: Path) -> bool:
    return "embedding" in path.parts


def _normalisation(path: Path, d_in: int) -> Normalisation:
    """The embedding's SAEs were trained on rows before the model scales them by sqrt(d_in)."""
    return StaticScale(1 / math.sqrt(d_in)) if _is_of_embedding(path) else Unnormalised()


def _read(arrays: NpzFile, name: str, *shape: int) -> Tensor:
    return arrays.read(_stored_name(arrays, name), *shape)


def _matrix(arrays: NpzFile, name: str, *shape: int) -> Tensor:
    return arrays.matrix(_stored_name(arrays, name), *shape)


def _stored_name(arrays: NpzFile, name: str) -> str:
    """The name in the file: some write `w_enc`, others `W_enc`."""
    return name if name in arrays else name.lower()


GEMMA_SCOPE = SaeFormat("Gemma Scope", recognises, outline, read)
