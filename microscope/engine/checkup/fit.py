"""How well an SAE accounts for what the model computes on a text: explained variance and L0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microscope.engine.saes.normalisations import Centred

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from torch import Tensor

    from microscope.core.messages import Progress
    from microscope.engine.saes.sae import Sae

TOKENS_PER_STEP = 128
"""Tokens that are encoded between two looks at the inbox."""


@dataclass(frozen=True)
class Fit:
    """An SAE on a text.

    `explained_variance` is `1 - E|y - y^|^2 / (E|y|^2 - |E y|^2)` over tokens, with y what the
    SAE reconstructs: 1 is perfect, 0 no better than the mean, NaN not finite. `l0` is the mean
    number of features that are on.
    """

    explained_variance: float
    l0: float


def measure(
    sae: Sae, residuals: Mapping[str, Tensor], tick: Progress
) -> Generator[Progress, None, Fit]:
    """Measure an SAE, a stretch of tokens at a time; yields `tick` between two stretches.

    `residuals` are (n_tokens, width) at all of the SAE's sites. Sums are float64.
    """
    target = residuals[sae.card.site_out or sae.card.site]
    n_tokens = len(target)
    error = active = 0.0
    for start in range(0, n_tokens, TOKENS_PER_STEP):
        few = slice(start, min(start + TOKENS_PER_STEP, n_tokens))
        of_error, of_active = _sums(sae, residuals, few)
        error, active = error + of_error, active + of_active
        yield tick
    variance = _variance(target, is_centred=isinstance(sae.normalisation, Centred))
    share = error / n_tokens / variance if n_tokens and variance > 0 else math.nan
    return Fit(1 - share, active / n_tokens if n_tokens else math.nan)


@torch.inference_mode()
def _sums(sae: Sae, residuals: Mapping[str, Tensor], few: slice) -> tuple[float, float]:
    """Squared errors and active features, summed; by the same way as what panels show."""
    found = sae.read(residuals, few, 1)
    square = found.norm.astype("float64") ** 2
    # A token of length 0 has no share of error to tell, and hardly occurs.
    errors = (found.error_share.astype("float64") * square)[square > 0]
    return float(errors.sum()), float(_n_active(sae, residuals, few, found.n_active.sum()))


def _n_active(sae: Sae, residuals: Mapping[str, Tensor], few: slice, positive: float) -> float:
    if not sae.activation.is_signed:
        return positive
    return float((sae.encode(residuals[sae.card.site][few]) != 0).sum())


def _variance(target: Tensor, *, is_centred: bool) -> float:
    """E|y|^2 - |E y|^2, computed as E|y - E y|^2.

    An SAE that centres is given the mean over the width, and has to explain the rest alone.
    """
    wide = target.cpu().double()  # on the CPU, since not every device has float64
    if is_centred:
        wide = wide - wide.mean(dim=1, keepdim=True)
    return float((wide - wide.mean(dim=0)).square().sum(dim=1).mean())
