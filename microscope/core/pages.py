"""What is known of a feature beyond its weights: label, maximum, density, examples."""

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


class Label(msgspec.Struct, frozen=True):
    """One description of a feature. `source` says who gave it; `score` as in `FeaturePage`.

    Of several labels the one with the highest `rank` is shown, the newest of equal ones.
    """

    text: str
    source: str = ""
    score: float | None = None
    rank: int = 0


class Histogram(msgspec.Struct, frozen=True):
    """How often a feature had which activation, zeros left out."""

    centres: tuple[float, ...]
    counts: tuple[float, ...]


class TokenWeight(msgspec.Struct, frozen=True):
    """How far a feature raises a token's logit, by its decoder row and the unembedding."""

    text: str
    weight: float


class Example(msgspec.Struct, frozen=True):
    """A stretch of text with the feature's activation at each token."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]

    @property
    def peak(self) -> float:
        """The largest activation; 0 without tokens."""
        return max(self.activations, default=0.0)


class FeatureDetails(msgspec.Struct, frozen=True):
    """Everything told of one feature that a list of features has no room for.

    Labels stand in the order in which they are preferred, tokens by weight, examples by peak.
    Activations are those of decoder rows of length 1 unless `is_raw`: then they are the
    SAE's own, as its makers left them.
    """

    feature: FeatureId
    labels: tuple[Label, ...] = ()
    histogram: Histogram | None = None
    top_tokens: tuple[TokenWeight, ...] = ()
    bottom_tokens: tuple[TokenWeight, ...] = ()
    examples: tuple[Example, ...] = ()
    is_raw: bool = False


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
