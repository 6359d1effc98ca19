"""Llama Scope in its first layout: `hyperparams.json` and `checkpoints/final.safetensors`.

Residual stream, attention output, MLP output and transcoders (He et al. 2024, "Llama Scope").
The threshold is one number, compared with the length that a feature writes into the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.openmoss_activation import activation_of
from microscope.engine.saes.openmoss_settings import (
    FACTOR_MISSING,
    OpenMossSettings,
    architecture_of,
    normalisation,
    read_settings,
)
from microscope.engine.saes.sae import Sae
from microscope.engine.saes.tensor_file import opened
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.normalisations import Normalisation
    from microscope.engine.saes.tensor_file import TensorFile

SETTINGS_FILE = "hyperparams.json"

_CPU = torch.device("cpu")


def recognises(path: Path) -> bool:
    """Whether a folder has the settings and the weights."""
    return (path / SETTINGS_FILE).is_file() and _weights(path).is_file()


def outline(path: Path) -> SaeCard:
    """What the settings and the tensors' shapes say. Raises `SaeUnreadable`."""
    settings = read_settings(path / SETTINGS_FILE)
    with opened(_weights(path), _CPU) as weights:
        n_features, d_in = weights.shape("encoder.weight", 2)
        d_out = weights.shape("decoder.weight", 2)[0]
    _normalisation(path, settings, d_in, d_out)
    return SaeCard(
        name=settings.site,
        source=str(path),
        site=settings.site,
        architecture=architecture_of(settings, has_threshold=_has_threshold(settings)),
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        remark=FACTOR_MISSING if settings.needs_norms and not _norms(settings) else "",
        site_out=settings.site_out,
        d_out=0 if d_out == d_in else d_out,
    )


def read(path: Path, device: torch.device) -> Sae:
    """The SAE or transcoder in a folder, decoder norms folded in where that is exact.

    Raises:
        SaeUnreadable: settings or weights are damaged, or of a kind that cannot be opened.
    """
    settings, card = read_settings(path / SETTINGS_FILE), outline(path)
    n_features, d_in, d_out = card.n_features, card.d_in, card.d_out or card.d_in
    with opened(_weights(path), device) as weights:
        w_enc = weights.matrix("encoder.weight", n_features, d_in).T
        w_dec = weights.matrix("decoder.weight", d_out, n_features).T
        b_dec = _decoder_bias(weights, settings, d_out)
        b_enc = weights.read("encoder.bias", n_features)
    kind = Transcoder if settings.site_out else Sae
    return kind(
        card=card,
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        activation=activation_of(
            path / SETTINGS_FILE, settings, n_features, _threshold(path, settings, b_enc)
        ),
        normalisation=_normalisation(path, settings, d_in, d_out),
        subtracts_b_dec=settings.apply_decoder_bias_to_pre_encoder,
    ).folded()


def _weights(path: Path) -> Path:
    return path / "checkpoints" / "final.safetensors"


def _has_threshold(settings: OpenMossSettings) -> bool:
    """Top-k SAEs were turned into JumpReLU ones after training, keeping the word top-k."""
    is_converted = settings.act_fn == "topk" and settings.jump_relu_threshold > 0
    return is_converted or settings.act_fn == "jumprelu"


def _threshold(path: Path, settings: OpenMossSettings, like: Tensor) -> Tensor | None:
    """One threshold for every feature, `(n_features,)`."""
    if not _has_threshold(settings):
        return None
    if not settings.sparsity_include_decoder_norm:
        raise SaeUnreadable(
            f"{path / SETTINGS_FILE} has a threshold that leaves decoder norms out "
            "(sparsity_include_decoder_norm false), which is not known here."
        )
    return torch.full_like(like, settings.jump_relu_threshold)


def _norms(settings: OpenMossSettings) -> tuple[float, ...]:
    known = settings.dataset_average_activation_norm or {}
    return (known["in"], known["out"]) if {"in", "out"} <= known.keys() else ()


def _normalisation(
    path: Path, settings: OpenMossSettings, d_in: int, d_out: int
) -> Normalisation:
    return normalisation(path / SETTINGS_FILE, settings, d_in, d_out, _norms(settings))


def _decoder_bias(weights: TensorFile, settings: OpenMossSettings, d_out: int) -> Tensor:
    if not settings.use_decoder_bias:
        return torch.zeros(d_out, device=weights.device)
    return weights.read("decoder.bias", d_out)


LLAMA_SCOPE = SaeFormat("Llama Scope", recognises, outline, read)
