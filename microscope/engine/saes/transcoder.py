"""Transcoders: features that are read at one site and written at another.

A transcoder stands in for what lies between the two sites, an MLP as a rule: it encodes the
MLP's input and reconstructs the MLP's output. Its error term is that of the output.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from microscope.core.sites import Site
from microscope.engine.saes.matrices import is_finite, product, rows_of
from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from microscope.engine.saes.normalisations import Frame
    from microscope.engine.saes.sae import ChosenFeatures, Strongest

_ROWS_AT_A_TIME = 4096
"""Decoder rows that are gathered at once; each is a few kilobytes."""


@dataclass(frozen=True, eq=False)
class Transcoder(Sae):
    """Activations are `f = activation(x · w_enc + b_enc)` of what stands at `card.site`.

    What stands at `card.site_out` is reconstructed as `f · w_dec + b_dec + x · w_skip^T`,
    the last term only where there is a skip matrix (Dunefsky et al. 2024, "Transcoders find
    interpretable LLM feature circuits"; Paulo et al. 2025, "Transcoders beat sparse
    autoencoders for interpretability"). `w_dec` is `(n_features, d_out)`, `b_dec` `(d_out,)`.
    """

    w_skip: Tensor | None = None  # (d_out, d_in), as w_enc; only where x is not normalised

    @property
    def sites(self) -> tuple[str, ...]:
        """Where it encodes, and where what it reconstructs stands."""
        return self.card.site, self.card.site_out or self.card.site

    def read(self, residuals: Mapping[str, Tensor], tokens: slice, k: int) -> Strongest:
        """`strongest` for some of the tokens of a run, given all that stands at `sites`."""
        x, y = (residuals[site][tokens] for site in self.sites)
        return self.strongest(x, k, y)

    def _decode_frame(self, activations: Tensor, frame: Frame) -> Tensor:
        return self._with_skip(super()._decode_frame(activations, frame), frame)

    def _with_skip(self, explained: Tensor, frame: Frame) -> Tensor:
        if self._skip is None:
            return explained
        skipped = product(frame.inside, self._skip)
        if not torch.isfinite(skipped).all() and not is_finite(self._skip):
            raise self._refuse("skip matrix")
        return explained + skipped

    @cached_property
    def _skip(self) -> Tensor | None:
        """The skip matrix with inputs first, `(d_in, d_out)`."""
        return None if self.w_skip is None else self.w_skip.T


@dataclass(frozen=True, eq=False)
class LayerOfCrossLayer:
    """The weights of one layer's features in a cross-layer transcoder.

    Shared by all the layers that are open: those above need what these features write there.
    """

    encoder: Transcoder
    rows: Tensor  # (n_features, n_outputs, d_out): at this block's output, the next one's, ...
    _memory: _LastActivations = field(default_factory=lambda: _LastActivations())

    def active(self, x: Tensor, tokens: slice) -> ActiveFeatures:
        """The features that are on at some tokens of `x`, `(n_all_tokens, d_in)`."""
        known = self._memory.of(x)
        key = tokens.indices(len(x))
        if key not in known:
            known[key] = ActiveFeatures.of(self.encoder.encode(x[tokens]))
        return known[key]

    def finite_rows(self, indices: Tensor, output: int) -> Tensor:
        """What one unit of some features writes at an output, float32 `(n_chosen, d_out)`.

        Raises:
            SaeUnreadable: the decoder has values there that are not finite numbers.
        """
        rows = rows_of(self.rows[:, output], indices)
        if not torch.isfinite(rows).all():
            raise self.encoder._refuse("decoder")
        return rows

    def written(self, active: ActiveFeatures, output: int) -> Tensor:
        """What active features add at an output, float32 `(n_tokens, d_out)`."""
        rows = self.rows[:, output]
        total = active.values.new_zeros(active.n_tokens, rows.shape[-1])
        for start in range(0, len(active.features), _ROWS_AT_A_TIME):
            some = slice(start, start + _ROWS_AT_A_TIME)
            moves = rows_of(rows, active.features[some]) * active.values[some, None]
            total.index_add_(0, active.tokens[some], moves)
        if not torch.isfinite(total).all() and not is_finite(rows):
            raise self.encoder._refuse("decoder")
        return total


@dataclass(frozen=True, eq=False)
class ActiveFeatures:
    """Activations of a stretch of tokens, those that are not 0."""

    n_tokens: int
    tokens: Tensor  # int64 (n_active,)
    features: Tensor  # int64 (n_active,)
    values: Tensor  # float32 (n_active,)

    @classmethod
    def of(cls, activations: Tensor) -> ActiveFeatures:
        """Pick them out of `(n_tokens, n_features)`."""
        tokens, features = activations.nonzero(as_tuple=True)
        return cls(len(activations), tokens, features, activations[tokens, features])


@dataclass(frozen=True, eq=False, kw_only=True)
class CrossLayerTranscoder(Transcoder):
    """One layer's features of a cross-layer transcoder, and those of the layers below.

    A feature of layer l writes into the outputs of blocks l, l + 1, ... alike, so the output
    of block m is reconstructed by all the layers up to it:
    `y^m = sum_{l <= m} f^l · rows^l[:, m - l] + b_dec^m`, and `x^m · w_skip^T` where there is
    a skip matrix (Ameisen et al. 2025, "Circuit tracing: revealing computational graphs in
    language models").
    """

    layers: tuple[LayerOfCrossLayer, ...]  # 0 to this one

    @classmethod
    def of(cls, layers: tuple[LayerOfCrossLayer, ...]) -> CrossLayerTranscoder:
        """The topmost of `layers`, which begin with layer 0."""
        own = layers[-1].encoder
        return cls(
            **{each.name: getattr(own, each.name) for each in fields(own)}, layers=layers
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """Where it encodes, where its target stands, and where the layers below encode."""
        below = (layer.encoder.card.site for layer in self.layers[:-1])
        return (*super().sites, *below)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The output of this layer's block, and those of all later blocks."""
        first, n_outputs = Site.parse(self.card.site_out), self.layers[-1].rows.shape[1]
        return tuple(Site(first.layer + n, first.hook).name for n in range(n_outputs))

    def read(self, residuals: Mapping[str, Tensor], tokens: slice, k: int) -> Strongest:
        """`strongest` for some of the tokens of a run, given all that stands at `sites`."""
        x, y = residuals[self.card.site][tokens], residuals[self.card.site_out][tokens]
        elsewhere = torch.zeros(y.shape, device=y.device)  # float32 whatever y is
        for n_blocks_up, layer in enumerate(reversed(self.layers[:-1]), start=1):
            active = layer.active(residuals[layer.encoder.card.site], tokens)
            elsewhere += layer.written(active, n_blocks_up)
        return self.strongest(x, k, y, elsewhere)

    def chosen_by_output(self, indices: Tensor) -> dict[str, ChosenFeatures]:
        """The features `indices` for every block's output that they write into."""
        chosen, own = self.chosen(indices), self.layers[-1]
        return {
            site: replace(chosen, rows=own.finite_rows(indices, output))
            for output, site in enumerate(self.outputs)
        }

    def _decode_frame(self, activations: Tensor, frame: Frame) -> Tensor:
        """This layer's share of its block's output, with the bias."""
        flat = activations.reshape(-1, activations.shape[-1])
        summed = self.layers[-1].written(ActiveFeatures.of(flat), 0) + self.b_dec
        own = frame.outside(summed.reshape(*activations.shape[:-1], -1))
        return self._with_skip(own, frame)


class _LastActivations:
    """Activations by stretch of tokens, as long as they are of the tensor seen last."""

    def __init__(self) -> None:
        self._seen: weakref.ref[Tensor] | None = None
        self._known: dict[tuple[int, int, int], ActiveFeatures] = {}

    def of(self, x: Tensor) -> dict[tuple[int, int, int], ActiveFeatures]:
        """What is known of `x`; forgets any other tensor."""
        if self._seen is None or self._seen() is not x:
            self._seen, self._known = weakref.ref(x, lambda _: self._known.clear()), {}
        return self._known
