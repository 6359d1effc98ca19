"""One sparse autoencoder: encode, decode, and what it says of a stretch of tokens.

Every published format is converted into this one class. All arithmetic is float32, whatever
the residual stream's dtype. Knows nothing of files, models or hooks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from microscope.engine.saes.normalisations import StaticScale, Unnormalised

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from microscope.core.cards import SaeCard
    from microscope.engine.saes.activations import Activation
    from microscope.engine.saes.normalisations import Frame, Normalisation

_CHUNK_BYTES = 1 << 26
"""What one float32 tensor of activations may weigh; a handful exist at a time."""

_SPARSE_BELOW = 32
"""With fewer than one feature in so many on, adding up rows beats a matrix product."""

_SMALLEST_NORM = 1e-8
"""Dead decoder rows are divided by this instead of by 0."""


@dataclass(frozen=True, eq=False)
class Strongest:
    """The strongest features of every token, strongest first; -1 where a token has fewer."""

    indices: np.ndarray  # int32 (n_tokens, k)
    activations: np.ndarray  # float32 (n_tokens, k)
    n_active: np.ndarray  # int32 (n_tokens,)
    error_share: np.ndarray  # float32 (n_tokens,), |x - x^|^2 / |x|^2
    norm: np.ndarray  # float32 (n_tokens,), |x|


@dataclass(frozen=True, eq=False)
class Sae:
    """A sparse autoencoder: tensors, an activation and a normalisation.

    Activations are `f = activation((norm_in(x) - b_dec) · w_enc + b_enc)`, where `b_dec` is
    subtracted only if `subtracts_b_dec`, and the reconstruction of `x` is
    `norm_out(f · w_dec + b_dec)`. So `b_dec` lives in the normalised space.
    """

    card: SaeCard
    w_enc: Tensor  # float32 (d_in, n_features)
    b_enc: Tensor  # float32 (n_features,)
    w_dec: Tensor  # float32 (n_features, d_in)
    b_dec: Tensor  # float32 (d_in,)
    activation: Activation
    normalisation: Normalisation
    subtracts_b_dec: bool

    def frame(self, x: Tensor) -> Frame:
        """Residuals `(..., d_in)` of any dtype as this SAE sees them, and the way back."""
        return self.normalisation.frame(x.float())

    def encode(self, x: Tensor) -> Tensor:
        """Activations `(..., n_features)`, float32, of residuals `(..., d_in)`."""
        return self.encode_frame(self.frame(x))

    def encode_frame(self, frame: Frame) -> Tensor:
        """Activations `(..., n_features)` of residuals that are normalised already."""
        return self.activation(self.encoder_input(frame) @ self.w_enc + self.b_enc)

    def encoder_input(self, frame: Frame) -> Tensor:
        """What the encoder's weights are multiplied with, `(..., d_in)`."""
        return frame.inside - self.b_dec if self.subtracts_b_dec else frame.inside

    def encode_features(self, x: Tensor, indices: Tensor) -> Tensor:
        """Activations `(..., n_chosen)` of the features `indices` alone.

        Costs O(d_in) per feature and token where the activation is local, and a full encode
        where it is not.
        """
        return self.chosen(indices).encode(self.frame(x))

    def chosen_by_output(self, indices: Tensor) -> dict[str, ChosenFeatures]:
        """The features `indices` for every site where they write."""
        return {self.card.site_out or self.card.site: self.chosen(indices)}

    def chosen(self, indices: Tensor) -> ChosenFeatures:
        """A few features cut out of this SAE, to be encoded and written many times."""
        row_scale = self.activation.row_scale
        rows = self.w_dec[indices]
        return ChosenFeatures(
            sae=self,
            indices=indices,
            columns=self.w_enc[:, indices],
            bias=self.b_enc[indices],
            rows=rows if row_scale is None else rows * row_scale[indices, None],
            activation=self.activation.at(indices) if self.activation.is_local else None,
        )

    def decode(self, activations: Tensor, x: Tensor) -> Tensor:
        """The reconstruction `(..., d_out)` from activations `(..., n_features)`.

        `x` says how to undo the normalisation of each token; without one it is not used.
        """
        return self._decode_frame(activations, self.frame(x))

    def _decode_frame(self, activations: Tensor, frame: Frame) -> Tensor:
        scale = self.activation.row_scale
        amounts = activations if scale is None else activations * scale
        return frame.outside(_weighted_rows(amounts, self.w_dec) + self.b_dec)

    def error(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """The error term `x - x^`, float32; of `target`, where that is not `x` itself."""
        frame = self.frame(x)
        goal = x if target is None else target
        return goal.float() - self._decode_frame(self.encode_frame(frame), frame)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that a reading of this SAE needs; where it encodes comes first."""
        return (self.card.site,)

    def read(self, residuals: Mapping[str, Tensor], tokens: slice, k: int) -> Strongest:
        """`strongest` for some of the tokens of a run, given all that stands at `sites`."""
        return self.strongest(residuals[self.card.site][tokens], k)

    def strongest(
        self,
        x: Tensor,
        k: int,
        target: Tensor | None = None,
        elsewhere: Tensor | None = None,
    ) -> Strongest:
        """The `k` strongest features of residuals `(n_tokens, d_in)`, and what is unexplained.

        Works in stretches of tokens, so that memory does not grow with their number. The
        share of the error is NaN for a residual of length 0.

        Args:
            x: what is encoded.
            k: how many features of each token.
            target: what is to be reconstructed, `(n_tokens, d_out)`; `x` by default.
            elsewhere: the part of it, of the same shape, that other layers' features explain.
        """
        target = x if target is None else target
        unexplained = target.float() if elsewhere is None else target.float() - elsewhere
        n_rows = max(1, _CHUNK_BYTES // (4 * self.card.n_features))
        starts = range(0, max(1, len(x)), n_rows)  # no tokens are one empty stretch
        stretches = [slice(start, start + n_rows) for start in starts]
        parts = [
            self._strongest_of_few(x[few], target[few], unexplained[few], k)
            for few in stretches
        ]
        return Strongest(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _strongest_of_few(
        self, x: Tensor, target: Tensor, unexplained: Tensor, k: int
    ) -> tuple[np.ndarray, ...]:
        frame = self.frame(x)
        activations = self.encode_frame(frame)
        error = unexplained - self._decode_frame(activations, frame)
        values, indices = activations.topk(min(k, self.card.n_features), dim=-1)
        columns = (
            indices.where(values > 0, -1).int(),
            values,
            (activations > 0).sum(-1, dtype=torch.int32),
            error.square().sum(-1) / target.float().square().sum(-1),
            torch.linalg.vector_norm(target.float(), dim=-1),
        )
        return tuple(column.cpu().numpy() for column in columns)

    def folded(self, *, in_place: bool = False) -> Sae:
        """The same SAE with decoder rows of length 1 and a static scale folded in.

        Reconstructions stay; an activation becomes the length that its feature writes into
        the residual stream (or into the normalised space, where tokens are normalised one by
        one). An SAE whose activation forbids it (plain top-k) keeps its rows. With `in_place`
        this SAE's tensors are used up, so that large weights never exist twice.
        """
        multiply = torch.Tensor.mul_ if in_place else torch.Tensor.mul
        unscaled = self._with_static_scale_folded(multiply)
        norms = torch.linalg.vector_norm(unscaled.w_dec, dim=-1).clamp_min(_SMALLEST_NORM)
        activation = self.activation.folded(norms)
        if activation is None:
            return replace(unscaled, card=msgspec.structs.replace(self.card, is_folded=False))
        return replace(
            unscaled,
            card=msgspec.structs.replace(self.card, is_folded=True),
            w_enc=multiply(unscaled.w_enc, norms),
            b_enc=multiply(unscaled.b_enc, norms),
            w_dec=multiply(unscaled.w_dec, 1 / norms[:, None]),
            activation=activation,
        )

    def _with_static_scale_folded(self, multiply: Callable[..., Tensor]) -> Sae:
        if not isinstance(self.normalisation, StaticScale):
            return self
        factor = self.normalisation.factor
        return replace(
            self,
            normalisation=Unnormalised(),
            w_enc=multiply(self.w_enc, factor),
            w_dec=multiply(self.w_dec, self.normalisation.unit),
            b_dec=multiply(self.b_dec, self.normalisation.unit),
        )


@dataclass(frozen=True, eq=False)
class ChosenFeatures:
    """A few features of one SAE, cut out once so that using them does not touch the rest."""

    sae: Sae
    indices: Tensor  # int64 (n_chosen,)
    columns: Tensor  # float32 (d_in, n_chosen)
    bias: Tensor  # float32 (n_chosen,)
    rows: Tensor  # float32 (n_chosen, d_in), what one unit of activation writes
    activation: Activation | None  # None where every feature is needed

    def encode(self, frame: Frame) -> Tensor:
        """Activations `(..., n_chosen)`."""
        if self.activation is None:
            return self.sae.encode_frame(frame)[..., self.indices]
        return self.activation(self.sae.encoder_input(frame) @ self.columns + self.bias)

    def written(self, amounts: Tensor, frame: Frame) -> Tensor:
        """What changing the activations by `amounts` `(..., n_chosen)` adds to the stream."""
        return (amounts @ self.rows) * frame.scale


def _weighted_rows(amounts: Tensor, rows: Tensor) -> Tensor:
    """`amounts @ rows`, reading only the rows in use where those are few."""
    flat = amounts.reshape(-1, amounts.shape[-1])
    token, feature = flat.nonzero(as_tuple=True)
    if flat.is_mps or len(feature) * _SPARSE_BELOW > flat.numel():
        return amounts @ rows
    n_per_token = torch.bincount(token, minlength=len(flat))
    summed = torch.nn.functional.embedding_bag(
        feature,
        rows,
        n_per_token.cumsum(0) - n_per_token,
        mode="sum",
        per_sample_weights=flat[token, feature],
    )
    return summed.reshape(*amounts.shape[:-1], rows.shape[-1])
