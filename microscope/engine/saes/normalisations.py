"""How the residual stream is scaled before an SAE sees it, and how that is undone.

Every normalisation in use is affine for a given token, so one `Frame` describes them all:
`inside = (x - shift) / divisor` on the way in, `y · scale + shift` on the way out. The way
out's `scale` is also the factor J of the clamp: what one unit of an SAE's own space is worth
in the residual stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

_LAYER_NORM_EPS = 1e-5
_SMALLEST_NORM = 1e-30  # a token of length 0 maps to 0, not to NaN


@dataclass(frozen=True, eq=False)
class Frame:
    """One stretch of tokens as an SAE sees them, and the way back."""

    inside: Tensor  # (..., d_in)
    scale: Tensor | float  # (..., 1)
    shift: Tensor | float  # (..., 1)

    def outside(self, y: Tensor) -> Tensor:
        """A vector of the SAE's space `(..., d_in)` in the residual stream."""
        return y * self.scale + self.shift


class Normalisation(Protocol):
    """One way to scale the residual stream."""

    def frame(self, x: Tensor) -> Frame:
        """Normalise float32 residuals `(..., d_in)`."""


@dataclass(frozen=True)
class Unnormalised:
    """The residual stream as it is."""

    def frame(self, x: Tensor) -> Frame:
        """Normalise float32 residuals `(..., d_in)`."""
        return Frame(x, 1.0, 0.0)


@dataclass(frozen=True)
class Centred:
    """The mean over the width removed: what a model with centred writing weights holds.

    LayerNorm ignores that mean, so edits may be added to the stream that still has it.
    """

    def frame(self, x: Tensor) -> Frame:
        """Normalise float32 residuals `(..., d_in)`."""
        mean = x.mean(dim=-1, keepdim=True)
        return Frame(x - mean, 1.0, mean)


@dataclass(frozen=True)
class LayerNorm:
    """Mean 0 and unit standard deviation (the unbiased one) for every token."""

    def frame(self, x: Tensor) -> Frame:
        """Normalise float32 residuals `(..., d_in)`."""
        mean = x.mean(dim=-1, keepdim=True)
        centred = x - mean
        deviation = centred.std(dim=-1, keepdim=True)
        return Frame(centred / (deviation + _LAYER_NORM_EPS), deviation, mean)


@dataclass(frozen=True)
class ConstantNorm:
    """Every token scaled to the length `sqrt(d_in)`."""

    def frame(self, x: Tensor) -> Frame:
        """Normalise float32 residuals `(..., d_in)`."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(_SMALLEST_NORM)
        unit = length / math.sqrt(x.shape[-1])
        return Frame(x / unit, unit, 0.0)


@dataclass(frozen=True)
class StaticScale:
    """Every token times one factor, `sqrt(d_in)` over the data set's mean length."""

    factor: float
    factor_out: float | None = None
    """That of what is reconstructed, where it stands at another site."""

    @property
    def unit(self) -> float:
        """What 1 of the scaled space is worth where the reconstruction belongs."""
        return 1 / (self.factor if self.factor_out is None else self.factor_out)

    def frame(self, x: Tensor) -> Frame:
        """Normalise float32 residuals `(..., d_in)`."""
        return Frame(x * self.factor, self.unit, 0.0)
