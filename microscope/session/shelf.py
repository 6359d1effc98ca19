"""What the session needs to know of the disk; storage provides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.core.checkup import Published
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

    def labels_store(self, sae: SaeCard) -> str:
        """The file that labels imported for an SAE go into; it calls the SAE by its site."""
        ...

    def layer_named_in(self, path: str) -> int | None:
        """The layer that a file of labels says it is about; None if it says nothing.

        Raises:
            LabelsUnreadable: the file is damaged.
        """
        ...

    def published_of(self, sae: SaeCard) -> Published | None:
        """What the makers of an SAE measured, where that is known."""
        ...
