"""How the next token is drawn: one pure function for each sampler, and the coupled draw.

Logits are 1-D float tensors over the vocabulary; a filtered-out token has the logit minus
infinity. Each function returns its argument unchanged at the sampler's neutral setting.

The draw uses the Gumbel-max trick with noise that depends on the seed, the position and the
token id alone. Two runs with one seed share their noise, so that a word differs only because
its logits do, and a token's noise is the same whichever other tokens were filtered out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from microscope.core.errors import GenerationStopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from microscope.core.prompts import Sampler

_OUT = -torch.inf
_FEW, _MANY = 1 << 10, 1 << 14
"""So many tokens almost always reach top-p; sorting them is much quicker than sorting all."""
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def choose(
    logits: Tensor, ids_so_far: Sequence[int], sampler: Sampler, seed: int, position: int
) -> int:
    """The next token's id.

    Args:
        logits: `(n_vocab,)`, the model's own.
        ids_so_far: prompt and written text, for the repetition penalty.
        sampler: checked settings.
        seed: of the run.
        position: where the new token will stand in the sequence, counted from 0.

    Raises:
        GenerationStopped: some logit is not finite.
    """
    _check_finite(logits)
    penalised = with_repetition_penalty(logits.cpu(), ids_so_far, sampler.repetition_penalty)
    if sampler.temperature == 0:
        return int(np.argmax(penalised.float().numpy()))
    return draw(filtered(penalised.double(), sampler), seed, position)


def filtered(logits: Tensor, sampler: Sampler) -> Tensor:
    """Temperature above 0, then the filters in their order."""
    warmed = with_temperature(logits, sampler.temperature)
    fewer = with_top_k(warmed, sampler.top_k)
    return with_min_p(with_top_p(fewer, sampler.top_p), sampler.min_p)


def with_repetition_penalty(logits: Tensor, ids: Sequence[int], penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of tokens already present.

    Source: Keskar et al. 2019, "CTRL", section 4.1, in the form for logits of either sign.
    """
    if penalty == 1 or not ids:
        return logits
    present = torch.tensor(sorted(set(ids)), device=logits.device)
    chosen = logits[present]
    return logits.index_copy(
        0, present, torch.where(chosen < 0, chosen * penalty, chosen / penalty)
    )


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide by a temperature above 0."""
    return logits if temperature == 1 else logits / temperature


def with_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` largest and whatever equals the last of them; 0 keeps all."""
    if k == 0 or k >= len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[-1], _OUT)


def with_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable tokens whose probability reaches `p`.

    Source: Holtzman et al. 2019. Among equals lower ids are kept first.
    """
    if p == 1:
        return logits
    total = logits.logsumexp(0)
    for n in (_FEW, _MANY, len(logits)):
        ids = _most_probable(logits, n)
        reached = (logits[ids] - total).exp().cumsum(0)
        if reached[-1] >= p:
            break
    # A token stays while those before it fall short.
    kept = ids[: 1 + int((reached[:-1] < p).sum())]
    return torch.full_like(logits, _OUT).index_copy_(0, kept, logits[kept])


def _most_probable(logits: Tensor, n: int) -> Tensor:
    """The ids of at least `n` of the tokens that are in, in falling order.

    Equal ones come together, by lower id.
    """
    is_near = logits > _OUT
    if n < len(logits):
        is_near &= logits >= logits.topk(n).values[-1]
    ids = is_near.nonzero()[:, 0]
    return ids[logits[ids].sort(descending=True, stable=True).indices]


def with_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least `p` times as probable as the most probable (Nguyen et al. 2024)."""
    if p == 0:
        return logits
    probabilities = logits.softmax(0)
    return logits.masked_fill(probabilities < p * probabilities.max(), _OUT)


def draw(logits: Tensor, seed: int, position: int) -> int:
    """Draw from the softmax of filtered logits: the largest sum of logit and Gumbel noise.

    Only surviving tokens get noise. Ties go to the lower id.
    """
    scores = logits.double().cpu().numpy()
    survivors = np.flatnonzero(scores > -np.inf)
    noise = gumbel_noise(seed, position, survivors)
    return int(survivors[np.argmax(scores[survivors] + noise)])


def gumbel_noise(seed: int, position: int, token_ids: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise, float64, a function of (seed, position, token id) alone.

    Counters go through the SplitMix64 mixer (Steele, Lea and Flood 2014), whose integers are
    the same on every machine, and become odd multiples of 2^-53: uniform, never 0 or 1.
    """
    key = _mixed(np.array([seed & _MASK], np.uint64))
    key = _mixed(key ^ np.uint64(position))
    bits = _mixed(_mixed(key ^ token_ids.astype(np.uint64)))
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    noise: np.ndarray = -np.log(-np.log(uniform))
    return noise


def _mixed(words: np.ndarray) -> np.ndarray:
    """One step of SplitMix64 on uint64 words, which wrap around."""
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = words ^ (words >> np.uint64(31))
    return mixed


def _check_finite(logits: Tensor) -> None:
    if not torch.isfinite(logits).all():
        raise GenerationStopped(
            "The model's next-token scores are no longer finite numbers. "
            "Lower the strength of the clamp."
        )
