"""What one record of a file tells of one feature, whatever the file's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from microscope.core.pages import (
    Example,
    FeatureDetails,
    FeaturePage,
    Histogram,
    Label,
    TokenWeight,
)

if TYPE_CHECKING:
    from microscope.core.features import FeatureId


class Find(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what is known of feature `index`; empty fields tell nothing.

    `source` is the name that the file gives to the set of features, such as `7-res-jb`.
    """

    index: int
    source: str = ""
    labels: tuple[Label, ...] = ()
    max_activation: float = 0.0
    density: float | None = None
    histogram: Histogram | None = None
    top_tokens: tuple[TokenWeight, ...] = ()
    bottom_tokens: tuple[TokenWeight, ...] = ()
    examples: tuple[Example, ...] = ()
    is_raw: bool = False

    def page(self, feature: FeatureId) -> FeaturePage:
        """The part that lists of features show; which label is shown is decided elsewhere."""
        return FeaturePage(feature, max_activation=self.max_activation, density=self.density)

    def details(self, feature: FeatureId) -> FeatureDetails:
        """The rest."""
        return FeatureDetails(
            feature,
            self.labels,
            self.histogram,
            self.top_tokens,
            self.bottom_tokens,
            self.examples,
            self.is_raw,
        )
