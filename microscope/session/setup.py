"""What the user has asked for: the part of the session that undo and files remember."""

from __future__ import annotations

import msgspec

from microscope.core.cards import SPECIMEN
from microscope.core.features import Clamp
from microscope.core.prompts import Prompt, Sampler


class Setup(msgspec.Struct, frozen=True):
    """Model and SAEs by their sources, the prompt, and how the text is written.

    `dtype` is how the model's weights are held; "auto" is the engine's choice.
    """

    model: str = SPECIMEN
    dtype: str = "auto"
    saes: tuple[str, ...] = ()
    prompt: Prompt = Prompt("")
    clamps: tuple[Clamp, ...] = ()
    sampler: Sampler = Sampler()
    seed: int = 0
    max_new_tokens: int = 48
