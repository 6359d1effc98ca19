"""Gemma Scope 2, for Gemma 3: a folder with `params.safetensors` and, mostly, `config.json`.

`<repository>/resid_post/layer_12_width_16k_l0_medium/`: JumpReLU SAEs and transcoders, no
subtraction of the decoder's bias, no normalisation; those whose name ends in `_affine` add a
linear map of their input to the reconstruction.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.activations import JumpReLU
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.json_file import read_object
from microscope.engine.saes.module_sites import site_of_point
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.sae import Sae
from microscope.engine.saes.tensor_file import TensorFile, opened
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS_FILE = "params.safetensors"
SETTINGS_FILE = "config.json"
SKIP = "affine_skip_connection"

_CPU = torch.device("cpu")
_ARCHITECTURE = "jump_relu"
_LAYER = re.compile(r"layer_(\d{1,5})(?:_.*)?")
_MLP_OUT = "model.layers.{}.post_feedforward_layernorm.output"
_HOOK_POINTS = {  # where each kind of folder reads and writes
    "resid_post": ("model.layers.{}.output",) * 2,
    "attn_out": ("model.layers.{}.self_attn.o_proj.input",) * 2,
    "mlp_out": (_MLP_OUT,) * 2,
    "transcoder": ("model.layers.{}.pre_feedforward_layernorm.output", _MLP_OUT),
}


class _Settings(msgspec.Struct, frozen=True):
    """What `config.json` says; other keys are left out."""

    architecture: str = _ARCHITECTURE
    hf_hook_point_in: str | None = None
    hf_hook_point_out: str | None = None


def recognises(path: Path) -> bool:
    """Whether a folder has the weights file."""
    return (path / WEIGHTS_FILE).is_file()


def outline(folder: Path) -> SaeCard:
    """What settings, folder names and the weights' shapes say. Raises `SaeUnreadable`."""
    with opened(folder / WEIGHTS_FILE, _CPU) as weights:
        return _card(folder, weights)


def read(folder: Path, device: torch.device) -> Sae:
    """The SAE or transcoder in a folder, decoder norms folded in.

    Raises:
        SaeUnreadable: settings or weights are damaged, or do not say what it reads.
    """
    with opened(folder / WEIGHTS_FILE, device) as weights:
        card = _card(folder, weights)
        d_in, n_features, d_out = card.d_in, card.n_features, card.d_out or card.d_in
        sae = Sae(
            card=card,
            w_enc=weights.matrix("w_enc", d_in, n_features),
            b_enc=weights.read("b_enc", n_features),
            w_dec=weights.matrix("w_dec", n_features, d_out),
            b_dec=weights.read("b_dec", d_out),
            activation=JumpReLU(weights.read("threshold", n_features)),
            normalisation=Unnormalised(),
            subtracts_b_dec=False,
        )
        if card.site_out or SKIP in weights:
            skip = weights.matrix(SKIP, d_in, d_out).T if SKIP in weights else None
            sae = Transcoder(**vars(sae), w_skip=skip)
        return sae.folded()


def _card(folder: Path, weights: TensorFile) -> SaeCard:
    d_in, n_features = weights.shape("w_enc", 2)
    _, d_out = weights.shape("w_dec", 2)
    site, site_out = _sites(folder)
    return SaeCard(
        name=site,
        source=str(folder),
        site=site,
        architecture="jumprelu_transcoder" if site_out != site else "jumprelu",
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        site_out="" if site_out == site else site_out,
        d_out=0 if d_out == d_in else d_out,
    )


def _sites(folder: Path) -> tuple[str, str]:
    """Where it reads and writes: the settings' word, or what the folders' names say."""
    settings = _settings(folder)
    point_in, point_out = settings.hf_hook_point_in, settings.hf_hook_point_out
    if not point_in:
        point_in, point_out = _points_by_name(folder)
    return _site(folder, point_in), _site(folder, point_out or point_in)


def _settings(folder: Path) -> _Settings:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return _Settings()
    try:
        settings = msgspec.convert(read_object(path), _Settings)
    except msgspec.ValidationError as error:
        raise SaeUnreadable(f"{path} is not the settings of an SAE: {error}.") from error
    if settings.architecture != _ARCHITECTURE:
        raise SaeUnreadable(
            f"{path} names the architecture {settings.architecture!r}; {_ARCHITECTURE!r} was "
            "expected of an SAE in the format of Gemma Scope 2."
        )
    return settings


def _points_by_name(folder: Path) -> tuple[str, str]:
    layer = _LAYER.fullmatch(folder.name)
    points = _HOOK_POINTS.get(folder.parent.name.removesuffix("_all"))
    if layer is None or points is None:
        raise SaeUnreadable(
            f"{folder} does not say what it reads: it has no {SETTINGS_FILE} with "
            "hf_hook_point_in, and its folders are not named as in "
            "resid_post/layer_12_width_16k_l0_medium."
        )
    return points[0].format(layer[1]), points[1].format(layer[1])


def _site(folder: Path, point: str) -> str:
    try:
        return site_of_point(point)
    except ValueError as error:
        raise SaeUnreadable(
            f"The hook point {point!r} of the SAE in {folder} is not the path of a module "
            "followed by .input or .output."
        ) from error


GEMMA_SCOPE_2 = SaeFormat("Gemma Scope 2", recognises, outline, read)
