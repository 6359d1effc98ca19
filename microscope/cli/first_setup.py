"""What the window starts with: what was asked for, or else the first demonstration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.core.cards import SPECIMEN
from microscope.core.features import Clamp, parse_clamp
from microscope.core.prompts import Prompt, Sampler
from microscope.session.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.storage.shelf import LocalShelf

WINDOW_SAMPLER = Sampler(temperature=0.7, top_p=0.95)
"""A little cooler than the model itself, which is what people like to read."""

FALLBACK_PROMPT = "The Golden Gate Bridge is"


def first_setup(
    shelf: LocalShelf,
    model: str | None = None,
    saes: Sequence[str] = (),
    prompt: str | None = None,
    clamps: Sequence[str] = (),
) -> Setup:
    """Model, SAEs, prompt and clamps to start with.

    Without a prompt the model's first demonstration is shown, with its feature held unless
    other clamps are given.

    Raises:
        ClampRejected: a clamp cannot be read.
    """
    source = model or SPECIMEN
    held = tuple(map(parse_clamp, clamps))
    demo = next(iter(shelf.demos_of(source)), None)
    if prompt is None and demo is not None:
        prompt = demo.prompt
        held = held or (Clamp(demo.feature, demo.value),)
    return Setup(
        model=source,
        saes=(*shelf.saes_of(source), *saes),
        prompt=Prompt(FALLBACK_PROMPT if prompt is None else prompt),
        clamps=held,
        sampler=WINDOW_SAMPLER,
    )
