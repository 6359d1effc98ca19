"""What turns an SAE's pre-activations into activations, one class per architecture.

Knows nothing of encoders and decoders: pre-activations `(..., n_features)` go in,
activations of the same shape come out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Activation(ABC):
    """The non-linearity of an SAE."""

    is_local: ClassVar[bool] = True
    """Whether a feature's activation depends on its own pre-activation only."""

    is_signed: ClassVar[bool] = False
    """Whether activations may be below 0."""

    @property
    def row_scale(self) -> Tensor | None:
        """Decoder rows written per unit of activation, `(n_features,)`; None means 1."""
        return None

    @property
    def can_fold(self) -> bool:
        """Whether there is a `folded` one."""
        return True

    @abstractmethod
    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""

    @abstractmethod
    def at(self, indices: Tensor) -> Activation:
        """The same for chosen features only; where `is_local` alone."""

    @abstractmethod
    def folded(self, norms: Tensor) -> Activation | None:
        """What gives `norms` times the activations when given `norms` times the inputs.

        None where no such rescaling exists because it would change which features are on.
        """


@dataclass(frozen=True, eq=False)
class ReLU(Activation):
    """`max(pre, 0)`."""

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        return torch.relu(pre)

    def at(self, indices: Tensor) -> ReLU:
        """The same for chosen features only."""
        return self

    def folded(self, norms: Tensor) -> ReLU:
        """Itself: ReLU commutes with positive factors."""
        return self


@dataclass(frozen=True, eq=False)
class Identity(Activation):
    """`pre` itself: a linear autoencoder."""

    is_signed: ClassVar[bool] = True

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        return pre

    def at(self, indices: Tensor) -> Identity:
        """The same for chosen features only."""
        return self

    def folded(self, norms: Tensor) -> Identity:
        """Itself: it commutes with every factor."""
        return self


@dataclass(frozen=True, eq=False)
class JumpReLU(Activation):
    """`max(pre, 0)` where `pre > threshold`, else 0 (Rajamanoharan et al. 2024).

    With `by_length` the threshold is for the length that a feature writes, so that the
    activation of the raw pre-activations is not defined, only the folded one.
    """

    threshold: Tensor  # (n_features,)
    by_length: bool = False

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        _refuse_lengths(self.by_length)
        return torch.relu(pre) * (pre > self.threshold)

    def at(self, indices: Tensor) -> JumpReLU:
        """The same for chosen features only."""
        return replace(self, threshold=self.threshold[indices])

    def folded(self, norms: Tensor) -> JumpReLU:
        """Thresholds scaled with their pre-activations, unless they are lengths already."""
        return JumpReLU(self.threshold if self.by_length else self.threshold * norms)


@dataclass(frozen=True, eq=False)
class Gated(Activation):
    """`max(pre · exp(r_mag) + b_mag, 0)` where `pre + b_gate > 0`, else 0.

    Gate and magnitude share the encoder (Rajamanoharan et al. 2024, "Improving dictionary
    learning with gated sparse autoencoders").
    """

    b_gate: Tensor  # (n_features,)
    r_mag: Tensor  # (n_features,)
    b_mag: Tensor  # (n_features,)

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        magnitude = torch.relu(pre * self.r_mag.exp() + self.b_mag)
        return magnitude * (pre + self.b_gate > 0)

    def at(self, indices: Tensor) -> Gated:
        """The same for chosen features only."""
        return Gated(self.b_gate[indices], self.r_mag[indices], self.b_mag[indices])

    def folded(self, norms: Tensor) -> Gated:
        """Both biases scaled; `r_mag` is a factor already."""
        return replace(self, b_gate=self.b_gate * norms, b_mag=self.b_mag * norms)


@dataclass(frozen=True, eq=False)
class TopK(Activation):
    """`max(h, 0)` for the `k` largest `h` of each token, 0 elsewhere (Gao et al. 2024).

    `h` is `pre`, or `pre · norms` where features are ranked by the length that they write
    (`rescale_acts_by_decoder_norm`); activations are then in units of that length. With
    `by_length` they are ranked so too, and only the folded activation is defined, which
    needs no norms.
    """

    is_local: ClassVar[bool] = False

    k: int
    norms: Tensor | None = None  # (n_features,)
    by_length: bool = False

    @property
    def can_fold(self) -> bool:
        """Whether features are ranked by the length that they write."""
        return self.by_length or self.norms is not None

    @property
    def row_scale(self) -> Tensor | None:
        """Decoder rows written per unit of activation, `(n_features,)`; None means 1."""
        return None if self.norms is None else 1 / self.norms

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        _refuse_lengths(self.by_length)
        ranked = pre if self.norms is None else pre * self.norms
        largest, indices = ranked.topk(self.k, dim=-1)
        return torch.zeros_like(ranked).scatter_(-1, indices, torch.relu(largest))

    def at(self, indices: Tensor) -> TopK:
        """Not defined: whether a feature is on depends on all the others."""
        raise TypeError("a top-k activation needs every feature")

    def folded(self, norms: Tensor) -> TopK | None:
        """Plain top-k where the ranking was by written length already, else None."""
        return TopK(self.k) if self.can_fold else None


@dataclass(frozen=True, eq=False)
class AbsTopK(Activation):
    """`pre` with its sign for the `k` largest `|pre|` of each token, 0 elsewhere."""

    is_local: ClassVar[bool] = False
    is_signed: ClassVar[bool] = True

    k: int

    @property
    def can_fold(self) -> bool:
        """No: other units would change which features are the largest."""
        return False

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        indices = pre.abs().topk(self.k, dim=-1).indices
        return torch.zeros_like(pre).scatter_(-1, indices, pre.gather(-1, indices))

    def at(self, indices: Tensor) -> AbsTopK:
        """Not defined: whether a feature is on depends on all the others."""
        raise TypeError("a top-k activation needs every feature")

    def folded(self, norms: Tensor) -> None:
        """None: other units would change which features are the largest."""
        return


@dataclass(frozen=True, eq=False)
class GroupMax(Activation):
    """`max(pre, 0)` for the largest of each of `n_groups` equal stretches of features."""

    is_local: ClassVar[bool] = False

    n_groups: int

    @property
    def can_fold(self) -> bool:
        """No: other units would change which features are the largest."""
        return False

    def __call__(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations `(..., n_features)`."""
        groups = pre.reshape(*pre.shape[:-1], self.n_groups, -1)  # (..., n_groups, group size)
        largest, indices = groups.max(dim=-1, keepdim=True)
        kept = torch.zeros_like(groups).scatter_(-1, indices, torch.relu(largest))
        return kept.flatten(-2)

    def at(self, indices: Tensor) -> GroupMax:
        """Not defined: whether a feature is on depends on its whole group."""
        raise TypeError("a group-max activation needs every feature")

    def folded(self, norms: Tensor) -> None:
        """None: other units would change which feature of a group is the largest."""
        return


def _refuse_lengths(by_length: bool) -> None:
    if by_length:
        raise TypeError("features judged by the length that they write need a folded SAE")
