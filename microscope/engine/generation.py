"""Writing on from a prompt, a token at a time, with features held.

Both generators may be left at any token: nothing is attached to the model between two steps,
and no torch mode outlives a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from microscope.engine.clamping import ClampSet, clamped, editable_positions
from microscope.engine.sampling import choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from torch import Tensor

    from microscope.core.prompts import Sampler
    from microscope.engine.language_model import LanguageModel

_KL_GROUP = 8
"""Written tokens whose KL is measured in one pass; as many rows of logits are kept."""


@dataclass(frozen=True)
class Written:
    """A new token and the model's probability for it, clamps in force, before the sampler."""

    id: int
    probability: float


@dataclass(frozen=True, eq=False)
class Kl:
    """KL(steered || unclamped) in nats at written positions from `position` on."""

    position: int
    values: np.ndarray  # float32 (n,)


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
    for written, _ in _write(model, ids, clamp_set, sampler, seed, max_new_tokens):
        yield written


def write_with_kl(
    model: LanguageModel,
    ids: Sequence[int],
    clamp_set: ClampSet,
    sampler: Sampler,
    seed: int,
    max_new_tokens: int,
) -> Iterator[Written | Kl]:
    """As `write`, and how far the clamps move each next-token distribution.

    The same text is read a second time without clamps, several tokens in one pass, so a
    batch of KL values follows each group of written tokens and the last token.
    """
    unclamped = _UnclampedReader(model, ids)
    for written, logits in _write(model, ids, clamp_set, sampler, seed, max_new_tokens):
        yield written
        unclamped.add(written.id, logits)
        if unclamped.n_waiting == _KL_GROUP:
            yield unclamped.measure()
    if unclamped.n_waiting:
        yield unclamped.measure()


def _write(
    model: LanguageModel,
    ids: Sequence[int],
    clamp_set: ClampSet,
    sampler: Sampler,
    seed: int,
    max_new_tokens: int,
) -> Iterator[tuple[Written, Tensor]]:
    """Each written token with the logits `(n_vocab,)` that it was drawn from."""
    sampler.check()
    sequence, cache, n_fed = list(ids), model.new_cache(), 0
    for _ in range(min(max_new_tokens, model.card.context_length - len(ids))):
        logits = _step(model, sequence[n_fed:], n_fed, cache, clamp_set)[0]
        n_fed = len(sequence)
        chosen = choose(logits, sequence, sampler, seed, position=n_fed)
        sequence.append(chosen)
        yield Written(chosen, _probability(logits, chosen)), logits
        if chosen in model.eos_ids:
            return


def _step(
    model: LanguageModel,
    new_ids: Sequence[int],
    start: int,
    cache: Any,
    clamp_set: ClampSet,
    keep: int = 1,
) -> Tensor:
    """Feed tokens that stand from position `start` on; float32 logits `(keep, n_vocab)`."""
    device = model.network.device
    rows = torch.tensor([list(new_ids)], device=device)
    editable = editable_positions(rows, model.special_ids, start)
    with clamped(model.anatomy, clamp_set, editable):
        logits: Tensor = model.step(rows, cache, keep)[0].cpu()
    return logits


def _probability(logits: Tensor, chosen: int) -> float:
    wide = logits.double()
    return float(torch.exp(wide[chosen] - wide.logsumexp(0)))


class _UnclampedReader:
    """Reads the written text without clamps, a group of tokens behind the writer."""

    def __init__(self, model: LanguageModel, ids: Sequence[int]) -> None:
        self._model = model
        self._cache = model.new_cache()
        self._unfed = list(ids)
        self._n_fed = 0
        self._n_measured = 0
        self._steered: list[Tensor] = []  # of (n_vocab,)

    @property
    def n_waiting(self) -> int:
        """How many written tokens have no KL yet."""
        return len(self._steered)

    def add(self, written_id: int, steered_logits: Tensor) -> None:
        """Take in a written token and the logits that it was drawn from."""
        self._unfed.append(written_id)
        self._steered.append(steered_logits)

    def measure(self) -> Kl:
        """The KL of every waiting token, from one pass over what was not read yet."""
        fed, keep = self._unfed[:-1], len(self._steered)
        logits = _step(self._model, fed, self._n_fed, self._cache, ClampSet(), keep)
        batch = Kl(self._n_measured, _kl(torch.stack(self._steered), logits))
        self._n_fed += len(fed)
        self._n_measured += keep
        self._unfed, self._steered = self._unfed[-1:], []
        return batch


def _kl(logits: Tensor, other: Tensor) -> np.ndarray:
    """KL(softmax(logits) || softmax(other)) of every row in nats, float32 `(n,)`."""
    log_p, log_q = logits.double().log_softmax(-1), other.double().log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    values: np.ndarray = kl.clamp_min(0).float().numpy()  # below 0 by rounding only
    return values
