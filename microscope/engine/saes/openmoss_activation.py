"""The activations that SAEs by OpenMOSS have.

With `sparsity_include_decoder_norm` a feature is judged by the length that it writes: by its
pre-activation times the norm of its decoder row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.activations import JumpReLU, ReLU, TopK

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.activations import Activation
    from microscope.engine.saes.openmoss_settings import OpenMossSettings


def activation_of(
    path: Path, settings: OpenMossSettings, n_features: int, threshold: Tensor | None
) -> Activation:
    """The SAE's activation.

    Args:
        path: the settings file, for messages.
        settings: what it says.
        n_features: how many features there are.
        threshold: `(n_features,)`; of the length written into the stream, or, where decoder
            norms play no part, of the pre-activation. None where there is none.

    Raises:
        SaeUnreadable: it is of another kind, or a number that it needs is missing.
    """
    by_length = settings.sparsity_include_decoder_norm
    if threshold is not None:
        return JumpReLU(threshold, by_length=by_length)
    if settings.act_fn == "topk":
        return TopK(_k(path, settings, n_features), by_length=by_length)
    if settings.act_fn == "relu":
        return ReLU()
    raise SaeUnreadable(
        f"The SAE of {path} has the activation function {settings.act_fn!r}, or lacks the "
        "threshold for it; relu, jumprelu and topk can be opened."
    )


def _k(path: Path, settings: OpenMossSettings, n_features: int) -> int:
    if settings.top_k is None or settings.top_k > n_features:
        raise SaeUnreadable(
            f"{path} gives a top-k SAE of {n_features} features the k {settings.top_k}; it "
            "must be between 1 and the number of features."
        )
    return settings.top_k
