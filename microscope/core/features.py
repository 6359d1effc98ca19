"""SAE features and what may be done to them. Data, and the one way to write a clamp as text."""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

from microscope.core.errors import ClampRejected

ClampMode = Literal["clamp", "add", "scale", "ablate"]
CLAMP_MODES: tuple[ClampMode, ...] = get_args(ClampMode)


class FeatureId(msgspec.Struct, frozen=True, order=True):
    """One SAE latent, named by the SAE it belongs to and its row in the decoder."""

    sae: str
    index: int

    def __str__(self) -> str:
        return f"{self.sae}:{self.index}"


class Clamp(msgspec.Struct, frozen=True):
    """A feature held at a value.

    With `a` the feature's present activation, the activation becomes
    `value` (mode clamp), `a + value` (add), `a * value` (scale) or 0 (ablate, value unused).
    `value` is in the SAE's activation units, in which a decoder row has length 1 wherever
    that rescaling is exact. A muted clamp is remembered and has no effect.
    """

    feature: FeatureId
    value: float
    mode: ClampMode = "clamp"
    is_muted: bool = False


def parse_clamp(text: str) -> Clamp:
    """Read `SAE:INDEX=VALUE[@clamp|add|scale|ablate]`.

    Raises:
        ClampRejected: the text is not of that form, or the value is not a finite number.
    """
    body, at, mode = text.partition("@")
    feature, equals, value = body.rpartition("=")
    sae, colon, index = feature.rpartition(":")
    chosen = next((known for known in CLAMP_MODES if known == (mode if at else "clamp")), None)
    if not (equals and colon and sae and index.isdecimal() and chosen):
        raise ClampRejected(
            f"{text!r} is not a clamp. Write SAE:INDEX=VALUE, and @clamp, @add, @scale or "
            "@ablate after it if wanted, for example blocks.3.hook_resid_post:17=6.5@add."
        )
    return Clamp(FeatureId(sae, int(index)), _finite(value, text), chosen)


def _finite(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ClampRejected(
            f"The value {value!r} in the clamp {text!r} is not a finite number."
        )
    return number
