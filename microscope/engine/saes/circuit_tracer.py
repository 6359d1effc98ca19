"""Transcoders for circuit-tracer: `config.yaml` and a `layer_L.safetensors` for each layer.

Encoder rows are features, as decoder rows are; nothing is subtracted from what is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.engine.saes.activations import JumpReLU, ReLU
from microscope.engine.saes.circuit_tracer_settings import has_settings, read_settings
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.tensor_file import opened
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.activations import Activation
    from microscope.engine.saes.tensor_file import TensorFile

KIND = "transcoder_set"
THRESHOLD = "activation_function.threshold"

_CPU = torch.device("cpu")
_NAME = re.compile(r"layer_(\d{1,5})\.safetensors", re.ASCII)


def recognises(path: Path) -> bool:
    """Whether a path is a layer's file with the settings beside it."""
    return bool(_NAME.fullmatch(path.name)) and path.is_file() and has_settings(path.parent)


def outline(path: Path) -> SaeCard:
    """What the settings and the tensors' shapes say. Raises `SaeUnreadable`."""
    with opened(path, _CPU) as weights:
        return _card(path, weights)


def read(path: Path, device: torch.device) -> Transcoder:
    """A layer's transcoder, decoder norms folded in.

    Raises:
        SaeUnreadable: settings or weights are damaged, or of another kind.
    """
    with opened(path, device) as weights:
        card = _card(path, weights)
        n_features, d_in, d_out = card.n_features, card.d_in, card.d_out or card.d_in
        has_skip = "W_skip" in weights
        transcoder = Transcoder(
            card=card,
            w_enc=weights.matrix("W_enc", n_features, d_in).T,
            b_enc=weights.read("b_enc", n_features),
            w_dec=weights.matrix("W_dec", n_features, d_out),
            b_dec=weights.read("b_dec", d_out),
            activation=activation_of(weights, THRESHOLD, n_features),
            normalisation=Unnormalised(),
            subtracts_b_dec=False,
            w_skip=weights.matrix("W_skip", d_out, d_in) if has_skip else None,
        )
    folded = transcoder.folded()
    assert isinstance(folded, Transcoder)
    return folded


def activation_of(weights: TensorFile, threshold: str, n_features: int) -> Activation:
    """JumpReLU where there is a threshold, of every feature or one for all; else ReLU."""
    return (
        JumpReLU(_threshold(weights, threshold, n_features)) if threshold in weights else ReLU()
    )


def _threshold(weights: TensorFile, name: str, n_features: int) -> Tensor:
    (n_stored,) = weights.shape(name, 1)
    return weights.read(name, n_stored if n_stored == 1 else n_features).expand(n_features)


def _card(path: Path, weights: TensorFile) -> SaeCard:
    settings = read_settings(path.parent, KIND)
    layer = int(path.stem.removeprefix("layer_"))
    n_features, d_in = weights.shape("W_enc", 2)
    d_out = weights.shape("W_dec", 2)[1]
    kinds = ("skip" if "W_skip" in weights else "", "transcoder")
    name = "_".join(("jumprelu" if THRESHOLD in weights else "", *kinds))
    return SaeCard(
        name=settings.site(layer),
        source=str(path),
        site=settings.site(layer),
        architecture=name.replace("__", "_").strip("_"),
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        site_out=settings.site_out(layer),
        d_out=0 if d_out == d_in else d_out,
    )


CIRCUIT_TRACER = SaeFormat("Transcoders (circuit-tracer)", recognises, outline, read)
