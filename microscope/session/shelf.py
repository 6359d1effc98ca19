"""What the session needs to know of the disk; storage provides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.core.features import FeatureId
    from microscope.core.pages import FeaturePage


class Shelf(Protocol):
    """What is kept on disk about models: where they are and what is known of features."""

    def folder_of(self, source: str) -> str:
        """The folder that a model's name stands for (the source itself if it is none)."""
        ...

    def saes_of(self, source: str) -> tuple[str, ...]:
        """SAE sources that come with a model."""
        ...

    def pages_of(self, model: ModelCard, sae: SaeCard) -> Mapping[FeatureId, FeaturePage]:
        """Feature pages of an open SAE; empty where there are none."""
        ...
