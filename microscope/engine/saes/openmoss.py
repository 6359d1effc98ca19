"""SAEs by OpenMOSS in their later layouts: `config.json` and `sae_weights.safetensors`.

The older of the two (Llama Scope R1) names its tensors as linear layers, the newer one as
matrices. Thresholds are stored as logarithms, in the SAE's scaled space.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    unit_of,
)
from microscope.engine.saes.sae import Sae
from microscope.engine.saes.tensor_file import opened
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.tensor_file import TensorFile

SETTINGS_FILE = "config.json"
WEIGHTS_FILE = "sae_weights.safetensors"

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Names:
    """What one layout calls its tensors."""

    w_enc: str
    b_enc: str
    w_dec: str
    b_dec: str
    log_threshold: str
    is_linear: bool  # matrices stand as in a linear layer: outputs first

    def sizes(self, weights: TensorFile) -> tuple[int, int, int]:
        """(d_in, n_features, d_out)."""
        first, second = weights.shape(self.w_enc, 2)
        out = weights.shape(self.w_dec, 2)
        return (second, first, out[0]) if self.is_linear else (first, second, out[1])

    def matrix(self, weights: TensorFile, name: str, rows: int, columns: int) -> Tensor:
        """A matrix with inputs first, `(rows, columns)`, as the file holds it."""
        if self.is_linear:
            return weights.matrix(name, columns, rows).T
        return weights.matrix(name, rows, columns)


_LINEAR = _Names(
    "encoder.weight",
    "encoder.bias",
    "decoder.weight",
    "decoder.bias",
    "log_jumprelu_threshold",
    is_linear=True,
)
_MATRICES = _Names(
    "W_E",
    "b_E",
    "W_D",
    "b_D",
    "activation_function.log_jumprelu_threshold",
    is_linear=False,
)


def recognises(path: Path) -> bool:
    """Whether a folder has the settings and the weights."""
    return (path / SETTINGS_FILE).is_file() and (path / WEIGHTS_FILE).is_file()


def outline(path: Path) -> SaeCard:
    """What the settings and the tensors' shapes say. Raises `SaeUnreadable`."""
    settings = read_settings(path / SETTINGS_FILE)
    with opened(path / WEIGHTS_FILE, _CPU) as weights:
        names = _names(weights)
        d_in, n_features, d_out = names.sizes(weights)
        lacks_norms = settings.needs_norms and not _norms(weights, settings)
        has_threshold = names.log_threshold in weights
    return SaeCard(
        name=settings.site,
        source=str(path),
        site=settings.site,
        architecture=architecture_of(settings, has_threshold=has_threshold),
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        remark=FACTOR_MISSING if lacks_norms else "",
        site_out=settings.site_out,
        d_out=0 if d_out == d_in else d_out,
    )


def read(path: Path, device: torch.device) -> Sae:
    """The SAE or transcoder in a folder, decoder norms folded in where that is exact.

    Raises:
        SaeUnreadable: settings or weights are damaged, or of a kind that cannot be opened.
    """
    settings_path = path / SETTINGS_FILE
    settings, card = read_settings(settings_path), outline(path)
    n_features, d_in, d_out = card.n_features, card.d_in, card.d_out or card.d_in
    with opened(path / WEIGHTS_FILE, device) as weights:
        names, norms = _names(weights), _norms(weights, settings)
        w_enc = names.matrix(weights, names.w_enc, d_in, n_features)
        w_dec = names.matrix(weights, names.w_dec, n_features, d_out)
        b_enc = weights.read(names.b_enc, n_features)
        b_dec = _decoder_bias(weights, names, settings, d_out)
        scale = normalisation(settings_path, settings, d_in, d_out, norms)
        threshold = _threshold(weights, names, settings, n_features, unit_of(scale))
    kind = Transcoder if settings.site_out else Sae
    return kind(
        card=card,
        w_enc=w_enc,
        b_enc=b_enc,
        w_dec=w_dec,
        b_dec=b_dec,
        activation=activation_of(settings_path, settings, n_features, threshold),
        normalisation=scale,
        subtracts_b_dec=settings.apply_decoder_bias_to_pre_encoder,
    ).folded()


def _names(weights: TensorFile) -> _Names:
    names = _MATRICES if _MATRICES.w_enc in weights else _LINEAR
    if any("glu" in name for name in weights.names):
        raise SaeUnreadable(
            f"The SAE in {weights.path} has a gated linear encoder, not known here."
        )
    return names


def _threshold(
    weights: TensorFile, names: _Names, settings: OpenMossSettings, n_features: int, unit: float
) -> Tensor | None:
    """The threshold, of lengths in the stream where decoder norms count; None without one."""
    if names.log_threshold not in weights:
        return None
    threshold = weights.read(names.log_threshold, n_features).exp()
    return threshold * unit if settings.sparsity_include_decoder_norm else threshold


def _norms(weights: TensorFile, settings: OpenMossSettings) -> tuple[float, ...]:
    """The mean lengths over the training data where it reads and where it writes, if known."""
    hooks = settings.site, settings.site_out or settings.site
    stored = [f"dataset_average_activation_norm.{hook}" for hook in hooks]
    if all(name in weights for name in stored):
        return tuple(float(weights.read(name)) for name in stored)
    known = settings.dataset_average_activation_norm or {}
    if {"in", "out"} <= known.keys():
        return known["in"], known["out"]
    return tuple(known[hook] for hook in hooks) if set(hooks) <= known.keys() else ()


def _decoder_bias(
    weights: TensorFile, names: _Names, settings: OpenMossSettings, d_out: int
) -> Tensor:
    if not settings.use_decoder_bias:
        return torch.zeros(d_out, device=weights.device)
    return weights.read(names.b_dec, d_out)


OPENMOSS = SaeFormat("OpenMOSS", recognises, outline, read)
