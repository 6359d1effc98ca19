"""What is known of a feature beyond its weights: label, maximum, density."""

from __future__ import annotations

import msgspec

from microscope.core.features import FeatureId


class FeaturePage(msgspec.Struct, frozen=True):
    """What a corpus has told of one feature. `max_activation` 0 means not known.

    `label_score` is F1 on held-out text where the source measured it.
    """

    feature: FeatureId
    label: str = ""
    label_score: float | None = None
    label_source: str = ""
    max_activation: float = 0.0
    density: float | None = None


class Demo(msgspec.Struct, frozen=True):
    """A demonstration that is known to work: what to type, what to hold, what to watch.

    `value` is in activation units; `max_activation` is the feature's largest one.
    """

    prompt: str
    feature: FeatureId
    value: float
    label: str = ""
    max_activation: float = 0.0
    note: str = ""
