"""Pure changes of the rack of clamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.features import Clamp, FeatureId
    from microscope.core.pages import FeaturePage
    from microscope.core.readings import FeatureReading

DEFAULT_VALUE = 10.0


def active(clamps: tuple[Clamp, ...]) -> tuple[Clamp, ...]:
    """The clamps that are not muted."""
    return tuple(clamp for clamp in clamps if not clamp.is_muted)


def without(clamps: tuple[Clamp, ...], feature: FeatureId) -> tuple[Clamp, ...]:
    """The rack without a feature."""
    return tuple(clamp for clamp in clamps if clamp.feature != feature)


def edited(
    clamps: tuple[Clamp, ...], feature: FeatureId, **fields: object
) -> tuple[Clamp, ...]:
    """The rack with fields of one clamp replaced; unchanged if it is not there."""
    return tuple(
        msgspec.structs.replace(clamp, **fields) if clamp.feature == feature else clamp
        for clamp in clamps
    )


def first_value(
    feature: FeatureId,
    pages: Mapping[FeatureId, FeaturePage],
    readings: Mapping[str, FeatureReading],
) -> float:
    """Where a new clamp starts: the feature's maximum, else the largest activation seen."""
    page = pages.get(feature)
    if page and page.max_activation > 0:
        return page.max_activation
    reading = readings.get(feature.sae)
    if reading is None:
        return DEFAULT_VALUE
    seen = reading.activations[reading.indices == feature.index]
    return float(seen.max()) if seen.size else DEFAULT_VALUE
