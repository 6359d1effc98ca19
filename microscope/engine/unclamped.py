"""How far clamps move each next-token distribution: the same text, read without clamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from microscope.engine.caches import can_crop, crop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from microscope.engine.language_model import LanguageModel

_ROWS_BYTES = 1 << 28
"""What the logits that are remembered from text to text may weigh."""

_FEWEST_ROWS = 64
_ROWS_AT_ONCE = 8
"""Rows that are widened to float64 at a time."""


class UnclampedText:
    """Logits of a text without clamps; a text that begins like the last one costs its rest."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._cache = model.new_cache()
        self._fed: list[int] = []
        self._rows: dict[int, Tensor] = {}  # position -> (n_vocab,), what it is chosen from

    def logits(self, sequence: Sequence[int], first: int) -> list[Tensor]:
        """The logits that each token of `sequence` from position `first` on is chosen from."""
        places = range(first, len(sequence))
        self._forget_beyond(_n_same(self._fed, sequence[:-1]))
        missing = next((place for place in places if place not in self._rows), None)
        if missing is not None:
            self._feed(sequence, missing)
        found = [self._rows[place] for place in places]
        self._trim()
        return found

    def _feed(self, sequence: Sequence[int], missing: int) -> None:
        """Read on until there are logits for every position from `missing` on."""
        self._forget_beyond(missing - 1)
        rows = torch.tensor([list(sequence[len(self._fed) : -1])])
        keep = len(sequence) - missing
        try:
            logits = self._model.step(rows, self._cache, keep)[0].cpu()
        except BaseException:  # some layers hold the new tokens already, and others do not
            self._cache, self._fed, self._rows = self._model.new_cache(), [], {}
            raise
        self._fed = list(sequence[:-1])
        self._rows.update(zip(range(missing, len(sequence)), logits, strict=True))

    def _forget_beyond(self, n_tokens: int) -> None:
        """Keep what follows from the first `n_tokens` tokens."""
        if n_tokens < len(self._fed):
            self._fed = self._fed[:n_tokens]
            if can_crop(self._cache):
                crop(self._cache, n_tokens)
            else:
                self._cache, self._fed = self._model.new_cache(), []
        self._rows = {place: row for place, row in self._rows.items() if place <= n_tokens}

    def _trim(self) -> None:
        n_most = max(_FEWEST_ROWS, _ROWS_BYTES // (4 * self._model.card.n_vocabulary))
        for place in sorted(self._rows)[:-n_most]:
            del self._rows[place]


def kl(logits: Sequence[Tensor], other: Sequence[Tensor]) -> np.ndarray:
    """KL(softmax(logits) || softmax(other)) of each pair of rows in nats, float32 `(n,)`."""
    batches = (slice(at, at + _ROWS_AT_ONCE) for at in range(0, len(logits), _ROWS_AT_ONCE))
    return np.concatenate(
        [_kl(torch.stack([*logits[few]]), torch.stack([*other[few]])) for few in batches]
    )


def _kl(logits: Tensor, other: Tensor) -> np.ndarray:
    log_p, log_q = logits.double().log_softmax(-1), other.double().log_softmax(-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1)
    values: np.ndarray = divergence.clamp_min(0).float().numpy()  # below 0 by rounding only
    return values


def _n_same(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the longest common beginning."""
    pairs = zip(first, second, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
