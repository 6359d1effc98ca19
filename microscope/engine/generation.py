"""Writing on from a prompt by the plain means: prefill, then a token at a time with a cache.

The generator may be left at any token: nothing is attached to the model between two steps,
and no torch mode outlives a step. `live.py` gives the same text from less work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from microscope.engine.clamping import clamped, editable_positions
from microscope.engine.sampling import choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from microscope.core.prompts import Sampler
    from microscope.engine.clamping import ClampSet
    from microscope.engine.language_model import LanguageModel


@dataclass(frozen=True)
class Written:
    """A new token and the model's probability for it, clamps in force, before the sampler."""

    id: int
    probability: float


def write(
    model: LanguageModel,
    ids: Sequence[int],
    clamp_set: ClampSet,
    sampler: Sampler,
    seed: int,
    max_new_tokens: int,
) -> Iterator[Written]:
    """Write until an end token (which is yielded), `max_new_tokens`, or the context's end.

    Args:
        model: an open model.
        ids: the prompt, at least one token.
        clamp_set: features to hold, in the prompt and in what is written.
        sampler: how to draw.
        seed: of the draws; the draw at a position is the same in every run with this seed.
        max_new_tokens: how many tokens to write at most.

    Raises:
        SamplerRejected: a sampler setting is outside its range.
        GenerationStopped: the logits are no longer finite.
    """
    sampler.check()
    sequence, cache, n_fed = list(ids), model.new_cache(), 0
    for _ in range(min(max_new_tokens, model.card.context_length - len(ids))):
        logits = _step(model, sequence[n_fed:], n_fed, cache, clamp_set)
        n_fed = len(sequence)
        chosen = choose(logits, sequence, sampler, seed, position=n_fed)
        sequence.append(chosen)
        yield Written(chosen, probability_of(logits, chosen))
        if chosen in model.eos_ids:
            return


def _step(
    model: LanguageModel,
    new_ids: Sequence[int],
    start: int,
    cache: Any,
    clamp_set: ClampSet,
) -> Tensor:
    """Feed tokens from position `start` on; float32 logits `(n_vocab,)` after the last."""
    device = model.network.device
    rows = torch.tensor([list(new_ids)], device=device)
    editable = editable_positions(rows, model.special_ids, start)
    with clamped(model.anatomy, clamp_set, editable):
        logits: Tensor = model.step(rows, cache)[0, 0].cpu()
    return logits


def probability_of(logits: Tensor, chosen: int) -> float:
    """The softmax weight of one token in logits `(n_vocab,)`."""
    wide = logits.double()
    return float(torch.exp(wide[chosen] - wide.logsumexp(0)))
