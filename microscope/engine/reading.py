"""One run over a prompt, read out as events: tokens, lens cells, features.

What a person looks at first comes first: the model's own output (the last row of the lens),
then the rows below it, then the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.core.messages import FeaturesRead, LensRead, PromptTokenised
from microscope.core.sites import lens_sites
from microscope.engine.clamping import ClampSet, clamped, editable_positions
from microscope.engine.lenses import Lens
from microscope.engine.tracing import tapped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from torch import Tensor

    from microscope.core.messages import AnyEvent, Read
    from microscope.engine.language_model import LanguageModel
    from microscope.engine.saes.sae import Sae

CELLS_PER_STEP = 128
"""Lens cells between two looks at the inbox; also what one matrix product handles well."""

TOKENS_PER_STEP = 256
"""Tokens whose features are encoded between two looks at the inbox."""


def read(model: LanguageModel, saes: Mapping[str, Sae], request: Read) -> Generator[AnyEvent]:
    """The events of a `Read`.

    Raises:
        UserError: the prompt or a clamp cannot be used.
    """
    ids = model.tokenise(request.prompt)
    yield PromptTokenised(run_id=request.run_id, tokens=tuple(map(model.token, ids)))
    clamp_set = ClampSet.of(request.clamps, saes)
    residuals = trace(model, ids, clamp_set, _sites_of(saes))
    yield from _lens_events(model, residuals, request)
    for name, sae in saes.items():
        yield from _feature_events(name, sae, residuals, request)


def _sites_of(saes: Mapping[str, Sae]) -> list[str]:
    return [site for sae in saes.values() for site in sae.sites]


@torch.inference_mode()
def trace(
    model: LanguageModel, ids: Sequence[int], clamp_set: ClampSet, sae_sites: Sequence[str]
) -> dict[str, Tensor]:
    """One pass; the residual at every lens site and at the SAEs' sites.

    Returns:
        Per site (n_tokens, d_model), in the model's dtype and on its device.
    """
    sites = dict.fromkeys((*lens_sites(model.card.n_layers), *sae_sites))
    rows = torch.tensor([list(ids)], device=model.network.device)
    editable = editable_positions(rows, model.special_ids)
    with (
        clamped(model.anatomy, clamp_set, editable),
        tapped(model.anatomy, tuple(sites)) as taps,
    ):
        model.network(rows, use_cache=False, logits_to_keep=1)
        return {site: taps[site][0] for site in sites}


def _lens_events(
    model: LanguageModel, residuals: Mapping[str, Tensor], request: Read
) -> Iterator[LensRead]:
    lens = Lens(model)
    sites = lens_sites(model.card.n_layers)
    n_tokens = residuals[sites[0]].shape[0]
    for first_site, last_site, first, last in rectangles(len(sites), n_tokens):
        names = sites[first_site:last_site]
        rows = torch.cat([residuals[name][first:last] for name in names])
        cells = lens.read_cells(rows, request.top)
        shape = len(names), last - first
        yield LensRead(
            run_id=request.run_id,
            site=first_site,
            token=first,
            ids=cells.ids.reshape(*shape, -1),
            p=cells.p.reshape(*shape, -1),
            logsumexp=cells.logsumexp.reshape(shape),
            entropy=cells.entropy.reshape(shape),
            texts={token: model.token(token).text for token in set(cells.ids.ravel().tolist())},
        )


def rectangles(n_sites: int, n_tokens: int) -> Iterator[tuple[int, int, int, int]]:
    """Rectangles of up to `CELLS_PER_STEP` cells that cover the grid, last sites first.

    Yields:
        (first site, end of sites, first token, end of tokens).
    """
    n_rows = max(1, CELLS_PER_STEP // n_tokens)
    for end in range(n_sites, 0, -n_rows):
        for first in range(0, n_tokens, CELLS_PER_STEP):
            yield max(0, end - n_rows), end, first, min(n_tokens, first + CELLS_PER_STEP)


def _feature_events(
    name: str, sae: Sae, residuals: Mapping[str, Tensor], request: Read
) -> Iterator[FeaturesRead]:
    for first in range(0, len(residuals[sae.card.site]), TOKENS_PER_STEP):
        tokens = slice(first, first + TOKENS_PER_STEP)
        found = sae.read(residuals, tokens, request.max_features)
        yield FeaturesRead(
            run_id=request.run_id,
            sae=name,
            token=first,
            indices=found.indices,
            activations=found.activations,
            n_active=found.n_active,
            error_share=found.error_share,
            norm=found.norm,
        )
