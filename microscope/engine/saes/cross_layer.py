"""Cross-layer transcoders for circuit-tracer: `W_enc_L.safetensors`, `W_dec_L.safetensors`.

Each layer is opened as one SAE. What it reconstructs needs the layers below too, so they are
opened with it and shared by all the layers of the same folder that are open.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.circuit_tracer import activation_of
from microscope.engine.saes.circuit_tracer_settings import has_settings, read_settings
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.tensor_file import opened
from microscope.engine.saes.transcoder import (
    CrossLayerTranscoder,
    LayerOfCrossLayer,
    Transcoder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.tensor_file import TensorFile

KIND = "cross_layer_transcoder"

_CPU = torch.device("cpu")
_NAME = re.compile(r"W_enc_(\d{1,5})\.safetensors", re.ASCII)
_open: WeakValueDictionary[tuple[object, ...], LayerOfCrossLayer] = WeakValueDictionary()


def recognises(path: Path) -> bool:
    """Whether a path is the encoder's file of a layer, with its decoder and the settings."""
    is_encoder = bool(_NAME.fullmatch(path.name)) and path.is_file()
    return is_encoder and _decoder_file(path).is_file() and has_settings(path.parent)


def outline(path: Path) -> SaeCard:
    """What the settings and the tensors' shapes say. Raises `SaeUnreadable`."""
    layer = _layer_of(path)
    settings = read_settings(path.parent, KIND)
    with opened(path, _CPU) as weights:
        _refuse_skip(weights)
        n_features, d_in = weights.shape(f"W_enc_{layer}", 2)
        (d_out,) = weights.shape(f"b_dec_{layer}", 1)
        has_threshold = f"threshold_{layer}" in weights
    return SaeCard(
        name=settings.site(layer),
        source=str(path),
        site=settings.site(layer),
        architecture="jumprelu_cross_layer" if has_threshold else "cross_layer",
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        site_out=settings.site_out(layer),
        d_out=0 if d_out == d_in else d_out,
    )


def read(path: Path, device: torch.device) -> CrossLayerTranscoder:
    """A layer of a cross-layer transcoder; its features keep their published units.

    Raises:
        SaeUnreadable: a file of this layer or of one below is missing or damaged.
    """
    files = [path.with_name(f"W_enc_{below}.safetensors") for below in range(_layer_of(path))]
    for file in (*files, path):
        if not recognises(file):
            raise SaeUnreadable(
                f"{file} is missing, or the decoder's file beside it. A layer of a cross-layer "
                "transcoder needs all the layers below it in the same folder."
            )
    return stacked([shared_layer(file, device, _read_layer) for file in (*files, path)])


def shared_layer(
    path: Path,
    device: torch.device,
    read_layer: Callable[[Path, torch.device], LayerOfCrossLayer],
) -> LayerOfCrossLayer:
    """A layer, the same object as long as another open one uses it and its file is the same."""
    state = path.stat()
    key = (str(path), state.st_mtime_ns, state.st_size, str(device))
    known = _open.get(key)
    if known is None:
        known = _open[key] = read_layer(path, device)
    return known


def stacked(layers: Sequence[LayerOfCrossLayer]) -> CrossLayerTranscoder:
    """The topmost of the layers 0, 1, ... of a transcoder.

    Raises:
        SaeUnreadable: they do not write into as many blocks as they should.
    """
    n_outputs = [layer.rows.shape[1] for layer in layers]
    if any(below - above != 1 for below, above in pairwise(n_outputs)):
        raise SaeUnreadable(
            f"The layers up to {layers[-1].encoder.card.source} write into {n_outputs} blocks; "
            "each should write into one fewer than that below it. The files are not of one "
            "transcoder."
        )
    return CrossLayerTranscoder.of(tuple(layers))


def _read_layer(path: Path, device: torch.device) -> LayerOfCrossLayer:
    card, layer = outline(path), _layer_of(path)
    n_features, d_in, d_out = card.n_features, card.d_in, card.d_out or card.d_in
    rows = _rows(path, device, n_features, d_out)
    with opened(path, device) as weights:
        encoder = Transcoder(
            card=card,
            w_enc=weights.matrix(f"W_enc_{layer}", n_features, d_in).T,
            b_enc=weights.read(f"b_enc_{layer}", n_features),
            w_dec=rows[:, 0],
            b_dec=weights.read(f"b_dec_{layer}", d_out),
            activation=activation_of(weights, f"threshold_{layer}", n_features),
            normalisation=Unnormalised(),
            subtracts_b_dec=False,
        )
    return LayerOfCrossLayer(encoder, rows)


def _rows(path: Path, device: torch.device, n_features: int, d_out: int) -> Tensor:
    name = f"W_dec_{_layer_of(path)}"
    with opened(_decoder_file(path), device) as weights:
        n_outputs = weights.shape(name, 3)[1]
        return weights.matrix(name, n_features, n_outputs, d_out)


def _refuse_skip(weights: TensorFile) -> None:
    if any("skip" in name.lower() for name in weights.names):
        raise SaeUnreadable(
            f"The cross-layer transcoder in {weights.path} has a skip matrix, whose layout is "
            "not known here."
        )


def _layer_of(path: Path) -> int:
    return int(path.stem.removeprefix("W_enc_"))


def _decoder_file(path: Path) -> Path:
    return path.with_name(f"W_dec_{_layer_of(path)}.safetensors")


CROSS_LAYER = SaeFormat("Cross-layer transcoders (circuit-tracer)", recognises, outline, read)
