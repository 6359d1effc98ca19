"""`microscope read`: a prompt at every site, as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from microscope.cli.local_engine import LocalEngine
from microscope.cli.output import write_json
from microscope.core.features import FeatureId, parse_clamp
from microscope.core.messages import FeaturesRead, LensRead, PromptTokenised, Read
from microscope.core.prompts import Prompt, Token
from microscope.core.readings import FeatureReading, LensReading
from microscope.core.sites import lens_sites

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from microscope.core.messages import AnyEvent
    from microscope.core.pages import FeaturePage


class Reading:
    """Collects the events of one run."""

    def __init__(self, n_layers: int, top: int, max_features: int) -> None:
        self._n_layers, self._top, self._max_features = n_layers, top, max_features
        self.tokens: tuple[Token, ...] = ()
        self.lens: LensReading | None = None
        self.features: dict[str, FeatureReading] = {}

    def take(self, event: AnyEvent) -> None:
        """Add one event."""
        match event:
            case PromptTokenised(tokens=tokens):
                self.tokens = tokens
                self.lens = LensReading.empty(lens_sites(self._n_layers), tokens, self._top)
            case LensRead() if self.lens:
                self.lens = self.lens.with_cells(event)
            case FeaturesRead(sae=sae):
                self.features.setdefault(
                    sae,
                    FeatureReading.empty(sae, len(self.tokens), event.indices.shape[1]),
                ).with_tokens(event)


def run(options: argparse.Namespace) -> int:
    """Open, read, write the JSON."""
    clamps = tuple(map(parse_clamp, options.clamps))
    engine = LocalEngine(options.model, options.saes)
    top = min(options.top, engine.model.n_vocabulary)
    reading = Reading(engine.model.n_layers, top, options.max_features)
    request = Read(
        run_id=0,
        prompt=Prompt(options.prompt, is_chat=options.chat),
        clamps=clamps,
        top=top,
        max_features=options.max_features,
    )
    for event in engine.events(request):
        reading.take(event)
    write_json(report(engine.describe(), reading, engine.pages), options.json)
    return 0


def report(
    model: dict[str, object], reading: Reading, pages: Mapping[FeatureId, FeaturePage]
) -> dict[str, object]:
    """The reading as a JSON object with stable keys."""
    lens = reading.lens
    return {
        "model": model,
        "tokens": [
            {"id": token.id, "text": token.text, "special": token.is_special}
            for token in reading.tokens
        ],
        "sites": list(lens.sites) if lens else [],
        "lens": _lens_rows(lens) if lens else [],
        "features": {
            sae: [_features_of(found, token, pages) for token in range(len(reading.tokens))]
            for sae, found in reading.features.items()
        },
        "error_share": {
            sae: list(map(_finite, found.error_share.tolist()))
            for sae, found in reading.features.items()
        },
    }


def _lens_rows(lens: LensReading) -> list[list[dict[str, Any]]]:
    return [
        [_cell(lens, site, token) for token in range(lens.n_tokens)]
        for site in range(len(lens.sites))
    ]


def _cell(lens: LensReading, site: int, token: int) -> dict[str, Any]:
    ids, weights = lens.ids[site, token].tolist(), lens.p[site, token].tolist()
    return {
        "logsumexp": float(lens.logsumexp[site, token]),
        "entropy": float(lens.entropy[site, token]),
        "top": [
            {"id": id_, "text": lens.texts[id_], "p": p}
            for id_, p in zip(ids, weights, strict=True)
        ],
    }


def _features_of(
    reading: FeatureReading, token: int, pages: Mapping[FeatureId, FeaturePage]
) -> list[dict[str, Any]]:
    rows = zip(
        reading.indices[token].tolist(), reading.activations[token].tolist(), strict=True
    )
    return [
        {"index": index, "activation": activation, "label": _label(reading.sae, index, pages)}
        for index, activation in rows
        if index >= 0
    ]


def _finite(share: float) -> float | None:
    """JSON has no NaN, which is the share where there is nothing to explain."""
    return share if math.isfinite(share) else None


def _label(sae: str, index: int, pages: Mapping[FeatureId, FeaturePage]) -> str:
    page = pages.get(FeatureId(sae, index))
    return page.label if page else ""
