"""What a run left behind, as arrays that a panel can look things up in.

Cells arrive in pieces. A reading's arrays are filled in place as pieces arrive, and each
piece makes a new reading value over the same arrays, so that listeners hear of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.messages import FeaturesRead, LensRead
    from microscope.core.prompts import Token


@dataclass(frozen=True, eq=False)
class LensReading:
    """The lens at every site and token; -1 ids and NaN where a cell is not filled yet."""

    sites: tuple[str, ...]
    tokens: tuple[Token, ...]
    ids: np.ndarray  # int32 (n_sites, n_tokens, top)
    p: np.ndarray  # float32 (n_sites, n_tokens, top)
    logsumexp: np.ndarray  # float32 (n_sites, n_tokens)
    entropy: np.ndarray  # float32 (n_sites, n_tokens), nats
    texts: Mapping[int, str]

    @classmethod
    def empty(cls, sites: tuple[str, ...], tokens: tuple[Token, ...], top: int) -> LensReading:
        """A reading with no cell filled."""
        cells = (len(sites), len(tokens))
        return cls(
            sites,
            tokens,
            np.full((*cells, top), -1, np.int32),
            np.full((*cells, top), np.nan, np.float32),
            np.full(cells, np.nan, np.float32),
            np.full(cells, np.nan, np.float32),
            {},
        )

    @property
    def n_tokens(self) -> int:
        """How many columns there are."""
        return len(self.tokens)

    def with_cells(self, piece: LensRead) -> LensReading:
        """This reading with a rectangle of cells filled."""
        n_sites, n_tokens, _ = piece.ids.shape
        area = np.s_[piece.site : piece.site + n_sites, piece.token : piece.token + n_tokens]
        self.ids[area], self.p[area] = piece.ids, piece.p
        self.logsumexp[area], self.entropy[area] = piece.logsumexp, piece.entropy
        return replace(self, texts={**self.texts, **piece.texts})


@dataclass(frozen=True, eq=False)
class FeatureReading:
    """The strongest features of one SAE at every token; -1 indices where there are fewer."""

    sae: str
    indices: np.ndarray  # int32 (n_tokens, n_shown), strongest first
    activations: np.ndarray  # float32 (n_tokens, n_shown)
    n_active: np.ndarray  # int32 (n_tokens,)
    error_share: np.ndarray  # float32 (n_tokens,), NaN where not filled
    norm: np.ndarray  # float32 (n_tokens,)

    @classmethod
    def empty(cls, sae: str, n_tokens: int, n_shown: int) -> FeatureReading:
        """A reading with no token filled."""
        return cls(
            sae,
            np.full((n_tokens, n_shown), -1, np.int32),
            np.zeros((n_tokens, n_shown), np.float32),
            np.zeros(n_tokens, np.int32),
            np.full(n_tokens, np.nan, np.float32),
            np.full(n_tokens, np.nan, np.float32),
        )

    def with_tokens(self, piece: FeaturesRead) -> FeatureReading:
        """This reading with a stretch of tokens filled."""
        n_tokens, n_shown = piece.indices.shape
        stretch = slice(piece.token, piece.token + n_tokens)
        self.indices[stretch, :n_shown] = piece.indices
        self.activations[stretch, :n_shown] = piece.activations
        self.n_active[stretch], self.error_share[stretch] = piece.n_active, piece.error_share
        self.norm[stretch] = piece.norm
        return replace(self)

    def activation(self, index: int, token: int) -> float:
        """The feature's activation at a token; 0 when it is not among those shown."""
        hit = np.flatnonzero(self.indices[token] == index)
        return float(self.activations[token, hit[0]]) if hit.size else 0.0
