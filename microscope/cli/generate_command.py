"""`microscope generate`: baseline and steered text with the same draws, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from microscope.cli.local_engine import LocalEngine
from microscope.cli.output import write_json
from microscope.core.features import Clamp, parse_clamp
from microscope.core.messages import Generate, KlMeasured, PromptTokenised, TextWritten
from microscope.core.prompts import Prompt, Sampler

if TYPE_CHECKING:
    import argparse

    from microscope.core.messages import AnyEvent


class Texts:
    """Collects the events of one `Generate`."""

    def __init__(self) -> None:
        self.prompt_ids: list[int] = []
        self.ids: dict[str, list[int]] = {"baseline": [], "steered": []}
        self.kl: list[float] = []

    def take(self, event: AnyEvent) -> None:
        """Add one event."""
        match event:
            case PromptTokenised(tokens=tokens):
                self.prompt_ids = [token.id for token in tokens]
            case TextWritten(stream=stream, tokens=tokens):
                self.ids[stream] += [token.id for token in tokens]
            case KlMeasured(values=values):
                self.kl += values.tolist()


def run(options: argparse.Namespace) -> int:
    """Open, write both texts, write the JSON."""
    clamps = tuple(map(parse_clamp, options.clamps))
    sampler = Sampler(
        options.temperature,
        options.top_k,
        options.top_p,
        options.min_p,
        options.repetition_penalty,
    )
    sampler.check()
    engine = LocalEngine(options.model, options.saes)
    request = Generate(
        run_id=0,
        prompt=Prompt(options.prompt, is_chat=options.chat),
        clamps=clamps,
        sampler=sampler,
        seed=options.seed,
        max_new_tokens=options.max_new_tokens,
    )
    texts = Texts()
    for event in engine.events(request):
        texts.take(event)
    write_json(report(engine, request, texts), options.json)
    return 0


def report(engine: LocalEngine, request: Generate, texts: Texts) -> dict[str, object]:
    """Both texts as a JSON object with stable keys.

    Without clamps the steered text is the baseline, and its KL is 0 everywhere.
    """
    baseline = texts.ids["baseline"]
    steered = texts.ids["steered"] if request.clamps else baseline
    return {
        "model": engine.describe(),
        "prompt_ids": texts.prompt_ids,
        "seed": request.seed,
        "sampler": msgspec.to_builtins(request.sampler),
        "clamps": [_clamp(clamp) for clamp in request.clamps],
        "baseline": {"ids": baseline, "text": engine.text(baseline)},
        "steered": {
            "ids": steered,
            "text": engine.text(steered),
            "kl": texts.kl if request.clamps else [0.0] * len(steered),
        },
    }


def _clamp(clamp: Clamp) -> dict[str, object]:
    return {
        "sae": clamp.feature.sae,
        "index": clamp.feature.index,
        "value": clamp.value,
        "mode": clamp.mode,
    }
