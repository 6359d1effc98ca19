"""SAEs trained with dictionary_learning: a folder with `ae.pt` and `config.json`.

`<run>/resid_post_layer_8/trainer_0/`; a checkpoint below it, `checkpoints/ae_1000.pt`, is an
SAE too. What the tensors are called and what is done with them depends on the class that the
settings name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.activations import Gated, JumpReLU, ReLU, TopK
from microscope.engine.saes.dictionary_settings import (
    SETTINGS_FILE,
    TrainerSettings,
    read_trainer,
    site_of,
)
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.pickle_file import PickleFile, opened
from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.activations import Activation

WEIGHTS_FILE = "ae.pt"

_LARGEST = 1e30  # numbers beyond this overflow float32 sooner or later
_CHECKPOINT = re.compile(r"ae_\d+\.pt")


@dataclass(frozen=True)
class _Weights:
    """The tensors of one SAE. A backup's biases still have to be scaled by a factor."""

    file: PickleFile
    trainer: TrainerSettings
    bias_factor: float = 1.0

    def bias(self, name: str, size: int) -> Tensor:
        return self.file.read(name, size) * self.bias_factor


@dataclass(frozen=True)
class _Layout:
    """One class of dictionary: which tensors it has and what it does with them."""

    architecture: str
    encoder_bias: str | None
    decoder_bias: str
    subtracts: bool
    activation: Callable[[_Weights], Activation]
    is_linear: bool = True
    """Whether the tensors are `encoder.weight` (n, d) and `decoder.weight` (d, n)."""


def _relu(_weights: _Weights) -> ReLU:
    return ReLU()


def _gated(weights: _Weights) -> Gated:
    n_features = weights.trainer.dict_size
    return Gated(
        b_gate=weights.bias("gate_bias", n_features),
        r_mag=weights.file.read("r_mag", n_features),
        b_mag=weights.bias("mag_bias", n_features),
    )


def _jumprelu(weights: _Weights) -> JumpReLU:
    return JumpReLU(weights.bias("threshold", weights.trainer.dict_size))


def _topk(weights: _Weights) -> TopK:
    stored = weights.file.number("k")
    k = weights.trainer.k if stored is None else stored
    if k is None or not 1 <= k <= weights.trainer.dict_size or k != int(k):
        raise SaeUnreadable(
            f"{weights.file.path} is a top-k SAE of {weights.trainer.dict_size} features with "
            f"the k {k}; it must be a whole number, from 1 to the number of features."
        )
    return TopK(int(k))


def _batch_topk(weights: _Weights) -> Activation:
    """What batch top-k becomes once trained; below 0 the threshold was never set."""
    threshold = weights.file.number("threshold")
    if threshold is None or threshold < 0:
        return ReLU()
    if not threshold < _LARGEST:
        raise SaeUnreadable(f"{weights.file.path} has the threshold {threshold}.")
    scaled = threshold * weights.bias_factor
    n_features = weights.trainer.dict_size
    return JumpReLU(torch.full((n_features,), scaled, device=weights.file.device))


_LAYOUTS = {
    "AutoEncoder": _Layout("standard", "encoder.bias", "bias", True, _relu),
    "AutoEncoderNew": _Layout("standard", "encoder.bias", "decoder.bias", False, _relu),
    "GatedAutoEncoder": _Layout("gated", None, "decoder_bias", True, _gated),
    "JumpReluAutoEncoder": _Layout("jumprelu", "b_enc", "b_dec", False, _jumprelu, False),
    "AutoEncoderTopK": _Layout("topk", "encoder.bias", "b_dec", True, _topk),
    "BatchTopKSAE": _Layout("batchtopk", "encoder.bias", "b_dec", True, _batch_topk),
    "MatryoshkaBatchTopKSAE": _Layout(
        "matryoshka_batchtopk", "b_enc", "b_dec", True, _batch_topk, False
    ),
}


def recognises(path: Path) -> bool:
    """Whether a path is a folder with both files, or a checkpoint of such a folder."""
    if _CHECKPOINT.fullmatch(path.name) and path.is_file():
        return _settings_file(path).is_file()
    return (path / WEIGHTS_FILE).is_file() and (path / SETTINGS_FILE).is_file()


def outline(path: Path) -> SaeCard:
    """What the settings say. Raises `SaeUnreadable`."""
    trainer = read_trainer(_settings_file(path))
    site = site_of(_settings_file(path).parent, trainer)
    return SaeCard(
        name=site,
        source=str(path),
        site=site,
        architecture=_layout(path, trainer).architecture,
        n_features=trainer.dict_size,
        d_in=trainer.activation_dim,
        is_folded=False,
    )


def read(path: Path, device: torch.device) -> Sae:
    """The SAE at a path, decoder norms folded in where that is exact.

    Raises:
        SaeUnreadable: settings or weights are damaged, or of a kind that cannot be opened.
    """
    card = outline(path)
    trainer = read_trainer(_settings_file(path))
    layout = _layout(path, trainer)
    with opened(path / WEIGHTS_FILE if path.is_dir() else path, device) as file:
        weights = _state(file, trainer)
        b_dec = weights.bias(layout.decoder_bias, card.d_in)
        return Sae(
            card=card,
            w_enc=_encoder(weights, layout),
            b_enc=_encoder_bias(weights, layout, b_dec),
            w_dec=_decoder(weights, layout),
            b_dec=b_dec,
            activation=layout.activation(weights),
            normalisation=Unnormalised(),
            subtracts_b_dec=layout.subtracts,
        ).folded()


def _settings_file(path: Path) -> Path:
    folder = path.parent.parent if _CHECKPOINT.fullmatch(path.name) else path
    return folder / SETTINGS_FILE


def _layout(path: Path, trainer: TrainerSettings) -> _Layout:
    if trainer.dict_class not in _LAYOUTS:
        raise SaeUnreadable(
            f"{_settings_file(path)} names the class {trainer.dict_class!r}; "
            f"{', '.join(_LAYOUTS)} can be opened."
        )
    return _LAYOUTS[trainer.dict_class]


def _state(file: PickleFile, trainer: TrainerSettings) -> _Weights:
    """The SAE's own tensors: in a backup taken in training they are under `ae`."""
    backup = file.inside("ae")
    if backup is None:
        return _Weights(file, trainer)
    factor = file.number("norm_factor")
    if factor is not None and not 0 < factor < _LARGEST:
        raise SaeUnreadable(f"{file.path} has the norm_factor {factor}.")
    return _Weights(backup, trainer, 1.0 if factor is None else factor)


def _encoder(weights: _Weights, layout: _Layout) -> Tensor:
    d_in, n_features = weights.trainer.activation_dim, weights.trainer.dict_size
    if layout.is_linear:
        return weights.file.matrix("encoder.weight", n_features, d_in).T
    return weights.file.matrix("W_enc", d_in, n_features)


def _decoder(weights: _Weights, layout: _Layout) -> Tensor:
    d_in, n_features = weights.trainer.activation_dim, weights.trainer.dict_size
    if layout.is_linear:
        return weights.file.matrix("decoder.weight", d_in, n_features).T
    return weights.file.matrix("W_dec", n_features, d_in)


def _encoder_bias(weights: _Weights, layout: _Layout, like: Tensor) -> Tensor:
    if layout.encoder_bias is None:  # the gate and the magnitude have their own
        return like.new_zeros(weights.trainer.dict_size)
    return weights.bias(layout.encoder_bias, weights.trainer.dict_size)


DICTIONARY_LEARNING = SaeFormat("dictionary_learning", recognises, outline, read)
