"""The logit lens: a residual read through the model's own final norm and unembedding.

At the site after the last block it is the model's own output distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from microscope.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from microscope.engine.architectures import Anatomy
    from microscope.engine.language_model import LanguageModel

MAX_ROWS = 128
MAX_LOGIT_BYTES = 1 << 26
"""The most that the float32 logits of one chunk may take; a few such buffers live at once."""


@dataclass(frozen=True, eq=False)
class LensCells:
    """What is kept of each row's distribution. Logsumexp and entropy are in nats."""

    ids: np.ndarray  # int32 (n, top), most probable first, equal ones by lower id
    p: np.ndarray  # float32 (n, top), softmax over the whole vocabulary
    logsumexp: np.ndarray  # float32 (n,)
    entropy: np.ndarray  # float32 (n,)


class Lens:
    """Reads residuals of one model."""

    def __init__(self, model: LanguageModel) -> None:
        self._anatomy = model.anatomy
        self._n_vocabulary = model.anatomy.n_vocabulary

    def unembed(self, residual: Tensor) -> Tensor:
        """Logits of residuals: (n, d_model) -> float32 (n, n_vocabulary)."""
        return unembed(self._anatomy, residual)

    @torch.inference_mode()
    def read_cells(self, residual: Tensor, top: int) -> LensCells:
        """Read (n, d_model) residuals, a bounded number of rows at a time.

        `top` is lowered to the size of the vocabulary.

        Raises:
            UserError: a row's logits are not finite.
        """
        n_rows = max(1, min(MAX_ROWS, MAX_LOGIT_BYTES // (4 * self._n_vocabulary)))
        chunks = torch.split(residual, n_rows) if len(residual) else ()
        return _joined([_read(self.unembed(chunk), top) for chunk in chunks], top)


def unembed(anatomy: Anatomy, residual: Tensor) -> Tensor:
    """Final norm, unembedding, scaling and soft-cap, in the network's dtype, then float32."""
    weight = next(anatomy.head.parameters())
    normed = anatomy.final_norm(residual.to(weight.device, weight.dtype))
    return anatomy.finish_logits(anatomy.head(normed)).float()


def top_ids(logits: Tensor, top: int) -> Tensor:
    """The `top` largest of each row of (n, n_vocabulary), exactly; equal ones by lower id."""
    values, ids = logits.topk(min(top + 1, logits.shape[1]), dim=1)
    last = values[:, top - 1 : top]
    # Which of several equal ones are kept is open where one more is equal to the last.
    tied = (values[:, top:] == last).any(dim=1).nonzero().squeeze(1)
    n_taken = (values[:, :top] == last).sum(1)
    ids = ids[:, :top].contiguous()
    if len(tied):
        ids[tied] = _with_lowest_ties(logits[tied], ids[tied], last[tied], n_taken[tied])
    ids = ids.sort(dim=1).values
    order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True).indices
    return ids.gather(1, order)


def _with_lowest_ties(logits: Tensor, ids: Tensor, last: Tensor, n_taken: Tensor) -> Tensor:
    """Replace the last `n_taken` ids of each row by the lowest ids whose logit is `last`."""
    n_vocabulary, top = logits.shape[1], ids.shape[1]
    # As float32, which every device can sort, and which holds whole numbers up to 2**24.
    from_end = torch.arange(n_vocabulary, 0, -1, device=logits.device, dtype=torch.float32)
    ranks = torch.where(logits == last, from_end, 0).topk(top, dim=1).values
    lowest = n_vocabulary - ranks.long()  # (n, top), ascending; only the first n_taken count
    place = torch.arange(top, device=logits.device) - (top - n_taken)[:, None]
    return torch.where(place < 0, ids, lowest.gather(1, place.clamp(min=0)))


def _read(logits: Tensor, top: int) -> LensCells:
    """Read float32 (n, n_vocabulary) logits, which are overwritten."""
    ids = top_ids(logits, min(top, logits.shape[1]))
    largest = logits.max(dim=1, keepdim=True).values
    logits.sub_(largest)
    log_p = logits.gather(1, ids)
    weights = logits.exp()
    total = weights.sum(1)
    mean = weights.mul_(logits).sum(1) / total
    if not bool(torch.isfinite(mean).all()):  # one logit that is not finite spoils the mean
        raise UserError(
            "The model's logits are no longer finite, so this reading has no probabilities. "
            "Lower the strength of the clamps, or open the model as float32."
        )
    log_total = total.log()
    return LensCells(
        ids.int().cpu().numpy(),
        (log_p - log_total[:, None]).exp().cpu().numpy(),
        (log_total + largest.squeeze(1)).cpu().numpy(),
        (log_total - mean).clamp(min=0).cpu().numpy(),
    )


def _joined(parts: list[LensCells], top: int) -> LensCells:
    if not parts:
        none = np.zeros(0, np.float32)
        return LensCells(
            np.zeros((0, top), np.int32), np.zeros((0, top), np.float32), none, none
        )
    return LensCells(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.p for part in parts]),
        np.concatenate([part.logsumexp for part in parts]),
        np.concatenate([part.entropy for part in parts]),
    )
