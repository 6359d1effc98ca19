"""Runs the model over texts and keeps what stands at sites, for the tokens that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.engine.clamping import ClampSet, editable_positions
from microscope.engine.reading import trace

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from torch import Tensor

    from microscope.core.messages import Progress
    from microscope.engine.language_model import LanguageModel

SINK_FACTOR = 10.0
"""Tokens so many times longer than the median are attention sinks, left out like BOS."""


def record(
    model: LanguageModel,
    texts: Sequence[tuple[int, ...]],
    sites: Sequence[str],
    tick: Progress,
) -> Generator[Progress, None, dict[str, Tensor]]:
    """What stands at sites after a pass over each text: (n_counted, width) per site.

    Position 0 of every text and special tokens are left out. Yields `tick` between passes.
    """
    parts: dict[str, list[Tensor]] = {site: [] for site in sites}
    for ids in texts:
        counts = editable_positions(torch.tensor([ids]), model.special_ids)[0]
        residuals = trace(model, ids, ClampSet(), sites)
        for site in sites:
            parts[site].append(residuals[site][counts.to(residuals[site].device)])
        yield tick
    return {site: torch.cat(stretches) for site, stretches in parts.items()}


def without_sinks(residuals: Mapping[str, Tensor], site: str) -> dict[str, Tensor]:
    """The residuals of tokens that are not far longer than the others at `site`."""
    norms = residuals[site].float().norm(dim=-1)
    if not len(norms):
        return dict(residuals)
    is_usual = norms <= SINK_FACTOR * norms.median()
    return {name: x[is_usual.to(x.device)] for name, x in residuals.items()}
