"""Tries a freshly loaded network: is what the lens shows what the model says?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.core.errors import ModelUnreadable
from microscope.core.sites import resid_post
from microscope.engine.lenses import unembed
from microscope.engine.recurrence import new_cache, read_on
from microscope.engine.tracing import tapped

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from microscope.engine.architectures import Anatomy

_N_TOKENS = 6
_CACHE_TOLERANCE = 0.05
"""Relative; only a network that keeps its past otherwise, or looks ahead, is this far off."""
_QUANTISED_CACHE_TOLERANCE = 0.3
"""The same in 8 and 4 bits: 8-bit products depend on which tokens are run together."""


def lens_tolerance(dtype: torch.dtype) -> float:
    """How far the lens may be from the logits, relative to the largest (at least 1)."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 2e-2


@torch.inference_mode()
def measure_lens_error(network: PreTrainedModel, anatomy: Anatomy, first_id: int) -> float:
    """The largest difference between the last lens row and the network's logits.

    Relative to the largest logit, or absolute where all are below 1. Also proves on the same
    few tokens that the network reads from left to right and that cached steps equal a full
    pass.

    Raises:
        ModelUnreadable: it does not, or it cannot be run at all.
    """
    ids = _probe_ids(anatomy, first_id).to(network.device)
    last = resid_post(anatomy.n_layers - 1)
    try:
        with tapped(anatomy, [last]) as taps:
            logits = network(input_ids=ids, use_cache=False).logits[0]
        stepped = _logits_with_cache(network, ids)
        lens = unembed(anatomy, taps[last][0])
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelUnreadable(
            f"The model in {network.name_or_path} ({anatomy.architecture}) cannot be run layer "
            f"by layer here ({error})."
        ) from error
    if not bool(torch.isfinite(logits).all()):
        raise ModelUnreadable(
            f"The logits of the model in {network.name_or_path} are not finite as "
            f"{network.dtype}. Open it as float32; if that does not help, the weights are "
            "damaged."
        )
    is_quantised = getattr(network, "is_quantized", False)
    tolerance = _QUANTISED_CACHE_TOLERANCE if is_quantised else _CACHE_TOLERANCE
    _check_left_to_right(logits, stepped, anatomy, tolerance)
    return _relative_error(lens, logits)


def _probe_ids(anatomy: Anatomy, first_id: int) -> Tensor:
    """A first token and a few others, spread over the vocabulary: (1, n)."""
    spread = torch.arange(1, _N_TOKENS) * anatomy.n_vocabulary // _N_TOKENS
    return torch.cat((torch.tensor([first_id]), spread)).unsqueeze(0)


def _logits_with_cache(network: PreTrainedModel, ids: Tensor) -> Tensor:
    cache = new_cache(network)
    head = read_on(network, ids[:, :-1], cache)
    tail = read_on(network, ids[:, -1:], cache)
    return torch.cat((head, tail), dim=1)[0]


def _check_left_to_right(
    logits: Tensor, stepped: Tensor, anatomy: Anatomy, tolerance: float
) -> None:
    if _relative_error(stepped, logits) > tolerance:
        raise ModelUnreadable(
            f"The model ({anatomy.architecture}) does not read strictly from left to right, "
            "or keeps its past in a form that is not known here. Open a "
            "decoder-only model such as GPT-2, Llama, Qwen or Gemma."
        )


def _relative_error(found: Tensor, expected: Tensor) -> float:
    expected = expected.float()
    difference = (found.float() - expected).abs().max()
    return float(difference / expected.abs().max().clamp(min=1))
