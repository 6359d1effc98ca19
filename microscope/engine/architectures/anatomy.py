"""The parts of an open network, found once and used by hooks and lenses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from microscope.engine.architectures.architecture import Architecture


@dataclass(frozen=True)
class LogitFinish:
    """What a family does to the unembedding's output: multiply, divide, soft-cap.

    The cap is `cap * tanh(logits / cap)` (Gemma 2 report, section 2).
    """

    multiplier: float | None = None
    divisor: float | None = None
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The finished logits, of the same shape and dtype; the input is left alone."""
        if self.multiplier is not None:
            logits = logits * self.multiplier
        if self.divisor is not None:
            logits = logits / self.divisor
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The modules of a network by what they do. Holds the network's own modules, no copies."""

    network: PreTrainedModel
    family: Architecture
    embedding: nn.Module
    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module
    head: nn.Module
    logit_finish: LogitFinish = field(default_factory=LogitFinish)
    is_parallel: bool = False
    """Whether attention and MLP read the same residual, so that there is no resid_mid."""

    @property
    def architecture(self) -> str:
        """The family's name, for people."""
        return self.family.name

    @property
    def n_layers(self) -> int:
        """How many blocks there are."""
        return len(self.blocks)

    @property
    def n_vocabulary(self) -> int:
        """How many logits there are, rows that only pad the unembedding included."""
        return int(next(self.head.parameters()).shape[0])

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""
        return int(self.network.config.get_text_config(decoder=True).hidden_size)

    def part(self, layer: int, path: str | None) -> nn.Module | None:
        """The module at a path inside a block; None where there is none."""
        try:
            return None if path is None else self.blocks[layer].get_submodule(path)
        except AttributeError:
            return None

    def mid_norm(self, layer: int) -> nn.Module | None:
        """The module whose input is resid_mid of a block; None where there is no such place."""
        return None if self.is_parallel else self.part(layer, self.family.resid_mid)

    def finish_logits(self, logits: Tensor) -> Tensor:
        """Turn the unembedding's output into the model's logits: scaling and soft-cap."""
        return self.logit_finish(logits)
