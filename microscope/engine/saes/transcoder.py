"""Transcoders: features that are read at one site and written at another.

A transcoder stands in for what lies between the two sites, an MLP as a rule: it encodes the
MLP's input and reconstructs the MLP's output. Its error term is that of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from microscope.engine.saes.normalisations import Frame
    from microscope.engine.saes.sae import Strongest


@dataclass(frozen=True, eq=False)
class Transcoder(Sae):
    """Activations are `f = activation(x · w_enc + b_enc)` of what stands at `card.site`.

    What stands at `card.site_out` is reconstructed as `f · w_dec + b_dec + x · w_skip^T`,
    the last term only where there is a skip matrix (Dunefsky et al. 2024, "Transcoders find
    interpretable LLM feature circuits"; Paulo et al. 2025, "Transcoders beat sparse
    autoencoders for interpretability"). `w_dec` is `(n_features, d_out)`, `b_dec` `(d_out,)`.
    """

    w_skip: Tensor | None = None  # float32 (d_out, d_in); only where x is not normalised

    @property
    def sites(self) -> tuple[str, ...]:
        """Where it encodes, and where what it reconstructs stands."""
        return self.card.site, self.card.site_out or self.card.site

    def read(self, residuals: Mapping[str, Tensor], tokens: slice, k: int) -> Strongest:
        """`strongest` for some of the tokens of a run, given all that stands at `sites`."""
        x, y = (residuals[site][tokens] for site in self.sites)
        return self.strongest(x, k, y)

    def _decode_frame(self, activations: Tensor, frame: Frame) -> Tensor:
        explained = super()._decode_frame(activations, frame)
        return explained if self.w_skip is None else explained + frame.inside @ self.w_skip.T
