"""One sparse autoencoder: encode, decode, and what it says of a stretch of tokens.

Every published format is converted into this one class. All arithmetic is float32, whatever
the dtype of the residual stream and of the matrices, which may be mapped from a file: only
what is used of them is read. Knows nothing of files, models or hooks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.matrices import (
    columns_of,
    is_finite,
    product,
    row_lengths,
    rows_of,
    weighted_rows,
)
from microscope.engine.saes.normalisations import StaticScale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from microscope.core.cards import SaeCard
    from microscope.engine.saes.activations import Activation
    from microscope.engine.saes.normalisations import Frame, Normalisation

_CHUNK_BYTES = 1 << 26
"""What one float32 tensor of activations may weigh; a handful exist at a time."""

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

    Once folded, activations are the lengths that features write: pre-activations are
    multiplied by `lengths` before the (folded) activation, and decoder rows divided by them.
    That is done on the way; no matrix is ever rescaled, copied or read for it in advance.
    """

    card: SaeCard
    w_enc: Tensor  # (d_in, n_features), float32, bfloat16 or float16; mapped from a file
    b_enc: Tensor  # float32 (n_features,)
    w_dec: Tensor  # (n_features, d_in), as w_enc
    b_dec: Tensor  # float32 (d_in,)
    activation: Activation
    normalisation: Normalisation
    subtracts_b_dec: bool
    counts_lengths: bool = False
    """Whether it is folded."""

    @property
    def device(self) -> torch.device:
        """Where it is computed; matrices in a file are moved there when they are needed."""
        return self.b_dec.device

    def frame(self, x: Tensor) -> Frame:
        """Residuals `(..., d_in)` of any dtype as this SAE sees them, and the way back."""
        return self.normalisation.frame(x.float())

    def encode(self, x: Tensor) -> Tensor:
        """Activations `(..., n_features)`, float32, of residuals `(..., d_in)`."""
        return self.encode_frame(self.frame(x))

    def encode_frame(self, frame: Frame) -> Tensor:
        """Activations `(..., n_features)` of residuals that are normalised already.

        Raises:
            SaeUnreadable: the encoder has values that are not finite numbers.
        """
        pre = product(self.encoder_input(frame), self.w_enc)
        if not _are_finite(pre) and not is_finite(self.w_enc):
            raise self._refuse("encoder")
        if not self.counts_lengths:
            return self.activation(pre.add_(self.b_enc))
        torch.addcmul(self._folded_bias, pre, self.lengths, out=pre)
        return self._folded_activation(pre)

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
        chosen = self.chosen(indices)
        return dict.fromkeys(self.outputs, chosen)

    def chosen(self, indices: Tensor) -> ChosenFeatures:
        """A few features cut out of this SAE, to be encoded and written many times.

        Reads their rows of the decoder and their columns of the encoder only.

        Raises:
            SaeUnreadable: the decoder has values there that are not finite numbers.
        """
        activation = self.activation.at(indices) if self.activation.is_local else None
        columns, bias = columns_of(self.w_enc, indices), self.b_enc[indices]
        rows = rows_of(self.w_dec, indices)
        if not _are_finite(rows):
            raise self._refuse("decoder")
        row_scale = self.activation.row_scale
        if self.counts_lengths:
            lengths = self._lengths_of(torch.linalg.vector_norm(rows, dim=-1))
            columns, bias, rows = columns * lengths, bias * lengths, rows / lengths[:, None]
            activation = activation and activation.folded(lengths)
        elif row_scale is not None:
            rows = rows * row_scale[indices, None]
        return ChosenFeatures(self, indices, columns, bias, rows, activation)

    def decode(self, activations: Tensor, x: Tensor) -> Tensor:
        """The reconstruction `(..., d_out)` from activations `(..., n_features)`.

        `x` says how to undo the normalisation of each token; without one it is not used.
        """
        return self._decode_frame(activations, self.frame(x))

    def _decode_frame(self, activations: Tensor, frame: Frame) -> Tensor:
        scale = self._row_scale if self.counts_lengths else self.activation.row_scale
        explained = weighted_rows(activations, self.w_dec, scale)
        if not _are_finite(explained) and not is_finite(self.w_dec):
            raise self._refuse("decoder")
        return frame.outside(explained + self.b_dec)

    def error(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """The error term `x - x^`, float32; of `target`, where that is not `x` itself."""
        frame = self.frame(x)
        goal = x if target is None else target
        return goal.float() - self._decode_frame(self.encode_frame(frame), frame)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that a reading of this SAE needs; where it encodes comes first."""
        return (self.card.site,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The sites where its features write."""
        return (self.card.site_out or self.card.site,)

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
        strength = activations.abs() if self.activation.is_signed else activations
        indices = strength.topk(min(k, self.card.n_features), dim=-1).indices
        values = activations.gather(-1, indices)
        columns = (
            indices.where(values != 0, -1).int(),
            values,
            (activations != 0).sum(-1, dtype=torch.int32),
            error.square().sum(-1) / target.float().square().sum(-1),
            torch.linalg.vector_norm(target.float(), dim=-1),
        )
        return tuple(column.cpu().numpy() for column in columns)

    def folded(self) -> Sae:
        """The same SAE counting activations in what they write.

        Reconstructions stay; an activation becomes the length that its feature writes into
        the residual stream (or into the normalised space, where tokens are normalised one by
        one). An SAE whose activation forbids it (plain top-k) keeps its units. Nothing is
        read for it: lengths are measured when they are first needed.
        """
        can_fold = self.activation.can_fold
        card = msgspec.structs.replace(self.card, is_folded=can_fold)
        return replace(self, card=card, counts_lengths=can_fold)

    @cached_property
    def lengths(self) -> Tensor:
        """What one unit of each feature's activation before folding writes, `(n_features,)`.

        Raises:
            SaeUnreadable: the decoder has values that are not finite numbers.
        """
        found = row_lengths(self.w_dec, self.device)
        if not _are_finite(found):
            raise self._refuse("decoder")
        return self._lengths_of(found)

    def _lengths_of(self, decoder_rows: Tensor) -> Tensor:
        """The same from the Euclidean lengths of some features' decoder rows."""
        lengths = decoder_rows.clamp_min(_SMALLEST_NORM)
        if isinstance(self.normalisation, StaticScale):
            lengths = lengths * self.normalisation.unit
        return lengths

    @cached_property
    def _row_scale(self) -> Tensor:
        return 1 / self.lengths

    @cached_property
    def _folded_bias(self) -> Tensor:
        return self.b_enc * self.lengths

    @cached_property
    def _folded_activation(self) -> Activation:
        return self.activation.folded(self.lengths) or self.activation

    def _refuse(self, part: str) -> SaeUnreadable:
        return SaeUnreadable(
            f"The {part} of the SAE in {self.card.source} has values that are not finite "
            "numbers; the file is damaged or its training diverged."
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
        pre = self.sae.encoder_input(frame) @ self.columns + self.bias
        if not _are_finite(pre) and not _are_finite(self.columns):
            raise self.sae._refuse("encoder")
        return self.activation(pre)

    def written(self, amounts: Tensor, frame: Frame) -> Tensor:
        """What changing the activations by `amounts` `(..., n_chosen)` adds to the stream."""
        return (amounts @ self.rows) * frame.scale


def _are_finite(numbers: Tensor) -> bool:
    """Whether no number is infinite or NaN; such a one would spoil the sum."""
    return bool(torch.isfinite(numbers.sum())) or bool(torch.isfinite(numbers).all())
