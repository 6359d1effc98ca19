"""The run of a check-up: the model first, then each SAE on a small text of several kinds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from microscope.core.checkup import Finding
from microscope.core.errors import UserError
from microscope.core.messages import CheckedUp, Progress
from microscope.core.prompts import Prompt
from microscope.engine.checkup.alternatives import alternatives, existing, neighbours
from microscope.engine.checkup.documents import documents_for
from microscope.engine.checkup.fit import measure
from microscope.engine.checkup.model_checks import check_model
from microscope.engine.checkup.published import published_values
from microscope.engine.checkup.recording import record, without_sinks
from microscope.engine.checkup.verdicts import Explanation, deserves_a_second_look, verdict

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from torch import Tensor

    from microscope.core.checkup import Published
    from microscope.core.messages import AnyEvent, CheckUp
    from microscope.engine.language_model import LanguageModel
    from microscope.engine.saes.sae import Sae

MAX_TOKENS = 128
"""Tokens of a document that are read."""

SAES_AT_ONCE = 8
"""SAEs that share one pass over the texts; bounds what is kept of the residual stream."""


def check_up(
    model: LanguageModel, saes: Mapping[str, Sae], request: CheckUp
) -> Generator[AnyEvent]:
    """The events of a `CheckUp`: progress, then all findings at once.

    Raises:
        UserError: the model cannot read the text.
    """
    length = min(MAX_TOKENS, model.context_length)
    documents = documents_for(model.card.source)
    texts = [model.tokeniser.encode(Prompt(text))[:length] for text in documents]
    tick = Progress(run_id=request.run_id, text="Checking the model")
    findings: list[Finding] = []
    for finding in check_model(model, saes, texts[0]):
        findings.append(finding)
        yield tick
    for names in groups(tuple(saes)):
        tick = Progress(run_id=request.run_id, text=f"Checking {names[0]}", done=len(findings))
        sites = sites_of(model, [saes[name] for name in names])
        recorded = yield from record(model, texts, sites, tick)
        for name in names:
            told = published_values(saes[name].card, request.published.get(name))
            findings.append((yield from check_sae(saes[name], recorded, told, tick)))
    yield CheckedUp(run_id=request.run_id, findings=tuple(findings))


def groups(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """SAEs that are measured on the same passes over the texts."""
    return [names[n : n + SAES_AT_ONCE] for n in range(0, len(names), SAES_AT_ONCE)]


def sites_of(model: LanguageModel, saes: Iterable[Sae]) -> tuple[str, ...]:
    """The sites of SAEs and those beside them that the model has, each once."""
    names: dict[str, None] = {}
    for sae in saes:
        names.update(dict.fromkeys(sae.sites))
        names.update(dict.fromkeys(existing(model.anatomy, neighbours(sae))))
    return tuple(names)


def check_sae(
    sae: Sae, recorded: Mapping[str, Tensor], published: Published, tick: Progress
) -> Generator[Progress, None, Finding]:
    """The finding on one SAE; one that cannot be read at all does not pass."""
    try:
        return (yield from _measured(sae, recorded, published, tick))
    except UserError as error:
        return Finding(sae.card.name, False, math.nan, math.nan, str(error))


def _measured(
    sae: Sae, recorded: Mapping[str, Tensor], published: Published, tick: Progress
) -> Generator[Progress, None, Finding]:
    """Measure an SAE on what was recorded, and where it fits badly, look for the reason."""
    residuals = without_sinks(recorded, sae.card.site)
    fit = yield from measure(sae, residuals, tick)
    explanations: list[Explanation] = []
    if deserves_a_second_look(fit, published):
        for other in alternatives(sae, residuals):
            found = yield from measure(other.sae, other.residuals, tick)
            explanations.append(Explanation(found, other.conclusion))
    return verdict(sae.card.name, fit, published, tuple(explanations))
