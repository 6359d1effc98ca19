"""SAEs that are two linear layers with a ReLU between them, in one file of tensors.

Several groups publish such files; they read the residual stream after the block that the
file's name gives. Nothing is subtracted from what is read, and nothing scaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.sites import resid_post
from microscope.engine.saes import archive
from microscope.engine.saes.activations import ReLU
from microscope.engine.saes.file_names import layer_in_names
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.pickle_file import opened, words_in
from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from pathlib import Path

    from microscope.engine.saes.named_tensors import NamedTensors


@dataclass(frozen=True)
class LinearLayers:
    """What a group calls the two layers, and what its files never hold."""

    encoder: str
    decoder: str
    foreign: frozenset[str] = frozenset()
    """Tensors that the same two layers come with in files of other kinds."""

    def format(self, name: str) -> SaeFormat:
        """The format of such files."""
        return SaeFormat(name, self.recognises, self.outline, self.read)

    def recognises(self, path: Path) -> bool:
        """Whether a path is a file with these layers."""
        if path.suffix not in archive.SUFFIXES or not path.is_file():
            return False
        words = words_in(path)
        layers = (self.encoder, self.decoder)
        own = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
        return own <= words and not words & self.foreign

    def outline(self, path: Path) -> SaeCard:
        """What the file's name and its tensors' shapes say. Raises `SaeUnreadable`."""
        with opened(path, torch.device("cpu")) as tensors:
            return self._card(path, tensors)

    def read(self, path: Path, device: torch.device) -> Sae:
        """The SAE in a file, decoder norms folded in. Raises `SaeUnreadable`."""
        with opened(path, device) as tensors:
            card = self._card(path, tensors)
            return Sae(
                card=card,
                w_enc=tensors.matrix(f"{self.encoder}.weight", card.n_features, card.d_in).T,
                b_enc=tensors.read(f"{self.encoder}.bias", card.n_features),
                w_dec=tensors.matrix(f"{self.decoder}.weight", card.d_in, card.n_features).T,
                b_dec=tensors.read(f"{self.decoder}.bias", card.d_in),
                activation=ReLU(),
                normalisation=Unnormalised(),
                subtracts_b_dec=False,
            ).folded()

    def _card(self, path: Path, tensors: NamedTensors) -> SaeCard:
        site = resid_post(layer_in_names(path))
        n_features, d_in = tensors.shape(f"{self.encoder}.weight", 2)
        return SaeCard(
            name=site,
            source=str(path),
            site=site,
            architecture="standard",
            n_features=n_features,
            d_in=d_in,
            is_folded=False,
        )
