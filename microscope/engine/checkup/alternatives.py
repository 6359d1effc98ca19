"""What an SAE may have been trained on instead: other scalings and neighbouring sites.

Each alternative gives the same SAE other residuals. One that fits far better tells why the
SAE does not fit as it is used.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from microscope.core.errors import SaeMismatch
from microscope.core.sites import Site, parse_site
from microscope.engine.saes.normalisations import Centred, Unnormalised
from microscope.engine.tracing import tapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from microscope.engine.architectures import Anatomy
    from microscope.engine.saes.sae import Sae

RESID_PRE, RESID_POST = "hook_resid_pre", "hook_resid_post"


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another way to use an SAE; `conclusion` is what follows if it fits."""

    sae: Sae
    residuals: Mapping[str, Tensor]
    conclusion: str


def alternatives(sae: Sae, residuals: Mapping[str, Tensor]) -> Iterator[Alternative]:
    """Other ways to use an SAE with what was recorded at its sites and at neighbouring ones."""
    if isinstance(sae.normalisation, Centred):
        uncentred = replace(sae, normalisation=Unnormalised())
        words = "this SAE was probably trained on activations that were not centred"
        yield Alternative(uncentred, residuals, words)
    elif isinstance(sae.normalisation, Unnormalised):
        words = "this SAE was probably trained with centred weights"
        yield Alternative(sae, _changed(sae, residuals, _centred), words)
        words = (
            "this SAE was probably trained on activations scaled to a mean length of "
            "sqrt(d_model)"
        )
        yield Alternative(sae, _changed(sae, residuals, _scaled), words)
    for name in neighbours(sae):
        if name in residuals:
            words = f"this SAE was probably trained on {name}"
            yield Alternative(sae, {**residuals, sae.card.site: residuals[name]}, words)


def neighbours(sae: Sae) -> tuple[str, ...]:
    """The sites one step before and after the one that an SAE reads; none for a transcoder."""
    site = _block_site(sae.card.site)
    if site is None or len(sae.sites) > 1:
        return ()
    before, after = Site(site.layer - 1, site.hook), Site(site.layer + 1, site.hook)
    # What enters a block is what left the one before: one step is a change of hook.
    if site.hook == RESID_PRE:
        after = Site(site.layer, RESID_POST)
    elif site.hook == RESID_POST:
        before = Site(site.layer, RESID_PRE)
    return tuple(place.name for place in (before, after) if place.layer >= 0)


def existing(anatomy: Anatomy, names: tuple[str, ...]) -> Iterator[str]:
    """Those of some sites that the model has."""
    for name in names:
        with suppress(SaeMismatch), tapped(anatomy, (name,)):
            yield name


def _block_site(name: str) -> Site | None:
    site = parse_site(name)
    return site if isinstance(site, Site) and site.layer >= 0 else None


def _changed(
    sae: Sae, residuals: Mapping[str, Tensor], change: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    return {site: change(residuals[site].float()) for site in dict.fromkeys(sae.sites)}


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _scaled(x: Tensor) -> Tensor:
    """Times sqrt(d) / E|x|, as for SAEs with one factor for the whole data set."""
    mean_norm = float(x.norm(dim=-1).mean())
    return x * (math.sqrt(x.shape[-1]) / mean_norm if mean_norm > 0 else 1.0)
