"""What a published SAE format has to offer so that its folders and files can be opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from microscope.core.cards import SaeCard
    from microscope.engine.saes.sae import Sae


@dataclass(frozen=True)
class SaeFormat:
    """One format. `outline` and `read` raise `SaeUnreadable` with a sentence for the user.

    A path is a folder, or one file where the format keeps an SAE in a single file.
    """

    name: str
    recognises: Callable[[Path], bool]
    """Whether a path is this format's; looks at names, inside files too, and never raises."""
    outline: Callable[[Path], SaeCard]
    """What can be said of the SAE at a path without reading its weights."""
    read: Callable[[Path, torch.device], Sae]
    """The SAE, its tensors on a device."""
