"""The session: everything the panels show, and nothing about how they show it.

Each field is replaced, never mutated, so that every change is heard by every panel. Written
on the GUI thread only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from psygnal import SignalGroupDescriptor

from microscope.core.features import FeatureId
from microscope.core.prompts import Token
from microscope.session.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.core.checkup import Finding
    from microscope.core.pages import FeaturePage
    from microscope.core.readings import FeatureReading, LensReading

EngineStatus = Literal["starting", "ready", "loading", "lost"]
Place = Literal["model", "saes", "prompt", "text", "clamps", "checkup"]


class Cursor(msgspec.Struct, frozen=True):
    """The one selection that links every panel. `site` is a row of the lens reading."""

    token: int = 0
    site: int = 0
    feature: FeatureId | None = None


class WrittenToken(msgspec.Struct, frozen=True):
    """A token the model wrote; `kl` is None until it is measured (steered text only)."""

    token: Token
    probability: float
    kl: float | None = None


class EngineState(msgspec.Struct, frozen=True):
    """The engine process as the user should know it."""

    status: EngineStatus = "starting"
    message: str = "Starting the engine"
    done: int = 0
    total: int = 0


RESTARTING = EngineState("starting", "Restarting the engine")


@dataclass
class Session:
    """The one source of truth; panels connect to `session.events.<field>`."""

    setup: Setup = field(default_factory=Setup)
    cursor: Cursor = field(default_factory=Cursor)
    engine: EngineState = field(default_factory=EngineState)
    model: ModelCard | None = None
    saes: tuple[SaeCard, ...] = ()
    pages: Mapping[FeatureId, FeaturePage] = field(default_factory=dict)
    tokens: tuple[Token, ...] = ()
    lens: LensReading | None = None
    features: Mapping[str, FeatureReading] = field(default_factory=dict)
    baseline: tuple[WrittenToken, ...] = ()
    steered: tuple[WrittenToken, ...] = ()
    failures: Mapping[Place, str] = field(default_factory=dict)
    checkup: tuple[Finding, ...] = ()
    is_checking_up: bool = False
    news: str = ""
    """What has just happened that no panel shows; gone when the next thing happens."""
    is_reading: bool = False
    is_writing: bool = False
    tokens_per_second: float = 0.0
    can_undo: bool = False
    can_redo: bool = False

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()
