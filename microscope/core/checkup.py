"""What a check-up found: measured facts about the open model and SAEs, one sentence each."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was measured.

    `value` passes against `limit` in the direction that `sentence` tells; both are NaN where
    the thing is not a number. `name` is a few words, or the name of the SAE concerned.
    """

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str


class Published(msgspec.Struct, frozen=True):
    """What the makers of an SAE measured on it; None where it is not known.

    `explained_variance` is a share (1 is perfect), `l0` the mean number of active features.
    """

    explained_variance: float | None = None
    l0: float | None = None
