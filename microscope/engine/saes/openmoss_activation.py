"""The activations that SAEs by OpenMOSS have, in the units of their unscaled encoder.

With `sparsity_include_decoder_norm` a feature is judged by the length that it writes: by its
pre-activation times the norm of its decoder row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.activations import JumpReLU, ReLU, TopK

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.activations import Activation
    from microscope.engine.saes.openmoss_settings import OpenMossSettings

_SMALLEST_NORM = 1e-8


def activation_of(
    path: Path, settings: OpenMossSettings, w_dec: Tensor, threshold: Tensor | None
) -> Activation:
    """The SAE's activation.

    Args:
        path: the settings file, for messages.
        settings: what it says.
        w_dec: decoder rows, float32 `(n_features, d_out)`.
        threshold: in scaled units, `(n_features,)`; None where there is none.

    Raises:
        SaeUnreadable: it is of another kind, or a number that it needs is missing.
    """
    if threshold is not None:
        norms = _norms(w_dec) if settings.sparsity_include_decoder_norm else 1.0
        return JumpReLU(threshold / norms)
    if settings.act_fn == "topk":
        return _topk(path, settings, w_dec)
    if settings.act_fn == "relu":
        return ReLU()
    raise SaeUnreadable(
        f"The SAE of {path} has the activation function {settings.act_fn!r}, or lacks the "
        "threshold for it; relu, jumprelu and topk can be opened."
    )


def _topk(path: Path, settings: OpenMossSettings, w_dec: Tensor) -> TopK:
    if settings.top_k is None or settings.top_k > len(w_dec):
        raise SaeUnreadable(
            f"{path} gives a top-k SAE of {len(w_dec)} features the k {settings.top_k}; it "
            "must be between 1 and the number of features."
        )
    norms = _norms(w_dec) if settings.sparsity_include_decoder_norm else None
    return TopK(settings.top_k, norms)


def _norms(w_dec: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(w_dec, dim=-1)
    return norms.clamp_min(_SMALLEST_NORM)
