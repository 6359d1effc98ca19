"""The cross-layer transcoders of Gemma Scope 2: `clt/<set>/params_layer_L.safetensors`.

Like its other files, but a feature has a decoder row for every block of the model, of which
those of its own block and the ones above count. Each layer is opened as one SAE.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.sites import Site
from microscope.engine.saes.activations import JumpReLU
from microscope.engine.saes.cross_layer import shared_layer, stacked
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.gemma_scope_2 import SKIP
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.tensor_file import opened
from microscope.engine.saes.transcoder import (
    CrossLayerTranscoder,
    LayerOfCrossLayer,
    Transcoder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.tensor_file import TensorFile

_CPU = torch.device("cpu")
_NAME = re.compile(r"params_layer_(\d{1,5})\.safetensors", re.ASCII)


def recognises(path: Path) -> bool:
    """Whether a path is the file of one layer in a set of the folder `clt`."""
    return bool(_NAME.fullmatch(path.name)) and path.is_file() and path.parts[-3:-2] == ("clt",)


def outline(path: Path) -> SaeCard:
    """What the file's name and the tensors' shapes say. Raises `SaeUnreadable`."""
    layer = _layer_of(path)
    site = Site(layer, "mlp.hook_in").name
    with opened(path, _CPU) as weights:
        d_in, n_features = weights.shape("w_enc", 2)
        n_layers, d_out = _outputs(weights, layer)
    return SaeCard(
        name=site,
        source=str(path),
        site=site,
        architecture="jumprelu_cross_layer",
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
        remark=f"Its features write into the blocks {layer} to {n_layers - 1}.",
        site_out=Site(layer, "hook_mlp_out").name,
        d_out=0 if d_out == d_in else d_out,
    )


def read(path: Path, device: torch.device) -> CrossLayerTranscoder:
    """A layer of a cross-layer transcoder; its features keep their published units.

    Raises:
        SaeUnreadable: a file of this layer or of one below is missing or damaged.
    """
    n_below = _layer_of(path)
    files = [path.with_name(f"params_layer_{layer}.safetensors") for layer in range(n_below)]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise SaeUnreadable(
            f"{missing} is missing. A layer of a cross-layer transcoder needs all the layers "
            "below it in the same folder."
        )
    return stacked([shared_layer(file, device, _read_layer) for file in (*files, path)])


def _read_layer(path: Path, device: torch.device) -> LayerOfCrossLayer:
    card, layer = outline(path), _layer_of(path)
    d_in, n_features, d_out = card.d_in, card.n_features, card.d_out or card.d_in
    with opened(path, device) as weights:
        n_layers, _ = _outputs(weights, layer)
        rows = weights.matrix("w_dec", n_features, n_layers, d_out)[:, layer:]
        encoder = Transcoder(
            card=card,
            w_enc=weights.matrix("w_enc", d_in, n_features),
            b_enc=weights.read("b_enc", n_features),
            w_dec=rows[:, 0],
            b_dec=weights.read("b_dec", d_out),
            activation=JumpReLU(weights.read("threshold", n_features)),
            normalisation=Unnormalised(),
            subtracts_b_dec=False,
            w_skip=_skip(weights, d_in, d_out),
        )
    return LayerOfCrossLayer(encoder, rows)


def _skip(weights: TensorFile, d_in: int, d_out: int) -> Tensor | None:
    return weights.matrix(SKIP, d_in, d_out).T if SKIP in weights else None


def _outputs(weights: TensorFile, layer: int) -> tuple[int, int]:
    """The number of blocks that have decoder rows, and the rows' width."""
    _, n_layers, d_out = weights.shape("w_dec", 3)
    if n_layers <= layer:
        raise SaeUnreadable(
            f"{weights.path} has decoder rows for {n_layers} blocks, so it cannot be that of "
            f"block {layer}."
        )
    return n_layers, d_out


def _layer_of(path: Path) -> int:
    return int(path.stem.removeprefix("params_layer_"))


GEMMA_SCOPE_2_CLT = SaeFormat("Gemma Scope 2 (cross-layer)", recognises, outline, read)
