"""What panels show, computed from parts of the session by pure functions.

Knows the session's data and plain words for it. Does not know widgets, and keeps nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from microscope.core.features import FeatureId
from microscope.core.sites import EMBED, Site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.core.features import Clamp
    from microscope.core.pages import FeaturePage
    from microscope.core.prompts import Token
    from microscope.core.readings import FeatureReading, LensReading
    from microscope.session.session import EngineState, WrittenToken

HeatColour = Literal["probability", "entropy"]
Tint = Literal["none", "probability", "kl"]
SortKey = Literal["label", "activation", "sae", "index"]

_VISIBLE = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"})
_DEFAULT_RANGE = 20.0
_KL_FULL_TINT_NATS = 2.0


# -- words ------------------------------------------------------------------------------


def visible_text(text: str) -> str:
    """The text with spaces, line ends and tabs made visible; "∅" for no text at all."""
    return text.translate(_VISIBLE) or "∅"


def percent(share: float) -> str:
    """A share from 0 to 1 in at most three digits; a dash where it is not known."""
    if math.isnan(share):
        return "–"
    if share < 0.001:
        return "0 %" if share == 0 else "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def compact_count(count: int) -> str:
    """A count in at most three digits and a letter, such as 7.3 M."""
    scaled, letter = float(count), ""
    for larger in ("K", "M", "B", "T"):
        if scaled < 999.5:
            break
        scaled, letter = scaled / 1000, larger
    if not letter:
        return str(count)
    return f"{scaled:.1f} {letter}" if scaled < 9.95 else f"{scaled:.0f} {letter}"


def site_label(site: str) -> str:
    """A site for the layer axis: "embed", or the block's number for its output."""
    if site == EMBED:
        return "embed"
    try:
        place = Site.parse(site)
    except ValueError:
        return site
    hook = place.hook.removeprefix("hook_")
    if place.layer < 0:  # before all blocks
        return hook
    return str(place.layer) if hook == "resid_post" else f"{place.layer} {hook}"


def site_sentence(site: str) -> str:
    """A site in words: "before the first layer", "after layer 3"."""
    label = site_label(site)
    return "before the first layer" if label == "embed" else f"after layer {label}"


def sae_label(sae: SaeCard, saes: Sequence[SaeCard] = ()) -> str:
    """An SAE by the layer it reads, or by its name where two read the same site."""
    if sum(other.site == sae.site for other in saes) > 1:
        return sae.name
    return f"layer {site_label(sae.site)}" if sae.site != EMBED else EMBED


def feature_label(feature: FeatureId, pages: Mapping[FeatureId, FeaturePage]) -> str:
    """What the feature means, or its number where nobody has said."""
    page = pages.get(feature)
    return page.label if page and page.label else f"feature {feature.index}"


def feature_facts(feature: FeatureId, pages: Mapping[FeatureId, FeaturePage]) -> str:
    """Everything known of a feature, a line each, for a tooltip."""
    page = pages.get(feature)
    lines = [feature_label(feature, pages), f"{feature.sae}, feature {feature.index}"]
    if page and page.label_source:
        score = "" if page.label_score is None else f", F1 {page.label_score:.2f}"
        lines.append(f"label from {page.label_source}{score}")
    if page and page.max_activation > 0:
        lines.append(f"largest activation known: {page.max_activation:.2f}")
    if page and page.density is not None:
        lines.append(f"on at {percent(page.density)} of tokens")
    return "\n".join(lines)


# -- status -----------------------------------------------------------------------------


def model_line(model: ModelCard | None) -> str:
    """The open model in a line: name, layers, parameters, number format, device."""
    if model is None:
        return "No model open"
    size = compact_count(model.n_parameters).replace(" ", "")
    return (
        f"{model.name} · {model.n_layers} layers · {size} parameters · "
        f"{model.dtype.removeprefix('torch.')} · {model.device}"
    )


def engine_line(engine: EngineState) -> str:
    """What the engine is doing, with how far it is where that is known."""
    words = {"ready": "Ready", "starting": "Starting", "loading": "Loading", "lost": "Stopped"}
    message = engine.message or words[engine.status]
    return f"{message} ({engine.done} of {engine.total})" if engine.total else message


def exactness_line(model: ModelCard | None) -> str:
    """Whether the last lens row equalled the model's own output."""
    if model is None:
        return ""
    return "exact" if model.is_exact else f"not exact: {model.remark or 'no reason given'}"


def heatmap_hint(
    model: ModelCard | None,
    engine: EngineState,
    tokens: Sequence[Token],
    *,
    is_reading: bool = False,
    can_undo: bool = False,
) -> tuple[str, str]:
    """A title and a sentence for an empty heatmap."""
    if engine.status == "lost":
        return "The engine has stopped", engine_line(engine)
    if engine.status != "ready" and (model is None or not tokens):
        return "One moment", engine_line(engine)
    if model is None:
        back = " Edit ▸ Undo brings the last one back." if can_undo else ""
        return "No model is open", f"Drop a model folder here, or choose File ▸ Library.{back}"
    if not tokens and not is_reading:
        return (
            "Type a prompt above",
            "Each cell will show what the model would say next, layer by layer.",
        )
    return "Reading the layers", "The model is run once over the prompt."


# -- lens -------------------------------------------------------------------------------


class CellBar(NamedTuple):
    """One of a cell's most probable tokens."""

    text: str
    p: float


def heat(lens: LensReading, colour: HeatColour, n_vocabulary: int) -> np.ndarray:
    """Values from 0 to 1, NaN where a cell is not filled; shape (n_sites, n_tokens).

    Probability of the most probable token, or entropy as a share of its largest possible
    value, ln(n_vocabulary).
    """
    if colour == "probability":
        return np.asarray(np.clip(lens.p[:, :, 0], 0, 1))
    return np.asarray(np.clip(lens.entropy / math.log(max(n_vocabulary, 2)), 0, 1))


def shades(values: np.ndarray) -> np.ndarray:
    """Rows of a 256-entry colour table, uint8: 0 where NaN, else 1 to 255."""
    missing = np.isnan(values)
    steps = np.rint(1 + 254 * np.where(missing, 0, values))
    return np.asarray(np.where(missing, 0, steps), np.uint8)


def is_filled(lens: LensReading, token: int, site: int) -> bool:
    """Whether the cell exists and has arrived."""
    n_sites, n_tokens, _ = lens.ids.shape
    inside = 0 <= token < n_tokens and 0 <= site < n_sites
    return inside and not math.isnan(float(lens.entropy[site, token]))


def cell_bars(lens: LensReading, token: int, site: int) -> tuple[CellBar, ...]:
    """The cell's most probable tokens, strongest first; empty where it is not filled."""
    if not is_filled(lens, token, site):
        return ()
    pairs = zip(lens.ids[site, token], lens.p[site, token], strict=True)
    return tuple(
        CellBar(visible_text(lens.texts.get(int(i), f"#{i}")), float(p))
        for i, p in pairs
        if i >= 0
    )


# -- features ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RankedFeatures:
    """Features of several SAEs in the order shown."""

    saes: tuple[str, ...]
    sae: np.ndarray  # int32 (n,), row of saes
    index: np.ndarray  # int32 (n,)
    activation: np.ndarray  # float32 (n,)

    def __len__(self) -> int:
        return len(self.index)

    def feature(self, row: int) -> FeatureId:
        """The feature in a row."""
        return FeatureId(self.saes[self.sae[row]], int(self.index[row]))

    def taken(self, rows: np.ndarray) -> RankedFeatures:
        """The features at `rows` (numbers or a mask), in that order."""
        return RankedFeatures(
            self.saes, self.sae[rows], self.index[rows], self.activation[rows]
        )

    def row_of(self, feature: FeatureId | None) -> int | None:
        """Where the feature stands, if it does."""
        if feature is None or feature.sae not in self.saes:
            return None
        same_sae = self.sae == self.saes.index(feature.sae)
        hits = np.flatnonzero(same_sae & (self.index == feature.index))
        return int(hits[0]) if hits.size else None


def counted_tokens(tokens: Sequence[Token]) -> np.ndarray:
    """Positions that statistics count: not the first, not special; if none is left, all."""
    kept = [i for i, token in enumerate(tokens) if i and not token.is_special]
    return np.array(kept or range(len(tokens)), dtype=np.intp)


def ranked_features(
    readings: Mapping[str, FeatureReading], positions: Sequence[int] | np.ndarray
) -> RankedFeatures:
    """Each feature that is on at one of the positions, by its largest value there."""
    parts = [_strongest(reading, np.asarray(positions)) for reading in readings.values()]
    counts = [len(index) for index, _ in parts]
    every = RankedFeatures(
        tuple(readings),
        np.repeat(np.arange(len(parts), dtype=np.int32), counts),
        np.concatenate([np.empty(0, np.int32), *(index for index, _ in parts)]),
        np.concatenate([np.empty(0, np.float32), *(value for _, value in parts)]),
    )
    return every.taken(np.argsort(-every.activation, kind="stable"))


def _strongest(reading: FeatureReading, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = positions[(positions >= 0) & (positions < len(reading.indices))].astype(np.intp)
    indices = reading.indices[inside].reshape(-1)
    values = reading.activations[inside].reshape(-1)
    on = (indices >= 0) & (values > 0)
    features, where = np.unique(indices[on], return_inverse=True)
    strongest = np.zeros(len(features), np.float32)
    np.maximum.at(strongest, where, values[on])
    return features.astype(np.int32), strongest


def matching(
    ranked: RankedFeatures, needle: str, pages: Mapping[FeatureId, FeaturePage]
) -> RankedFeatures:
    """The features whose label contains the needle or whose number starts with it."""
    wanted = needle.strip().casefold()
    if not wanted:
        return ranked
    labelled = [f for f, page in pages.items() if wanted in page.label.casefold()]
    keep = np.zeros(len(ranked), bool)
    for row, sae in enumerate(ranked.saes):
        numbers = [f.index for f in labelled if f.sae == sae]
        keep |= (ranked.sae == row) & np.isin(ranked.index, numbers)
    if wanted.isdecimal():
        keep |= np.char.startswith(ranked.index.astype(str), wanted)
    return ranked.taken(keep)


def in_order(
    ranked: RankedFeatures,
    key: SortKey,
    is_descending: bool,
    pages: Mapping[FeatureId, FeaturePage],
) -> RankedFeatures:
    """The features sorted by a column; equals keep their order."""
    if key == "label":
        labels = [feature_label(ranked.feature(row), pages) for row in range(len(ranked))]
        _, values = np.unique([label.casefold() for label in labels], return_inverse=True)
    else:
        values = getattr(ranked, key)
    order = np.argsort(-values if is_descending else values, kind="stable")
    return ranked.taken(order)


def empty_list_hint(n_on: int, n_shown: int, needle: str, tokens: Sequence[Token]) -> str:
    """Why no feature is listed; empty when there are some."""
    if n_shown:
        return ""
    if not tokens:
        return "Type a prompt to see which features are on."
    return (
        f"No feature that is on matches “{needle.strip()}”."
        if n_on
        else "No feature is on here."
    )


def share_of_maximum(activation: float, page: FeaturePage | None) -> float | None:
    """The activation as a share of the feature's largest known one; None if unknown."""
    return activation / page.max_activation if page and page.max_activation > 0 else None


def error_shares(
    readings: Mapping[str, FeatureReading], positions: Sequence[int] | np.ndarray
) -> tuple[float, float] | None:
    """Smallest and largest unexplained share among SAEs, each averaged over positions."""
    means = []
    for reading in readings.values():
        inside = [p for p in positions if 0 <= p < len(reading.error_share)]
        known = reading.error_share[inside]
        known = known[~np.isnan(known)]
        means += [float(known.mean())] if known.size else []
    return (min(means), max(means)) if means else None


# -- clamps -----------------------------------------------------------------------------


class ClampScale(NamedTuple):
    """How a clamp's value is shown: `value = units · unit`, units from low to high."""

    unit: float
    low: float
    high: float
    suffix: str
    ticks: tuple[float, ...]


def largest_activation(readings: Mapping[str, FeatureReading], feature: FeatureId) -> float:
    """The feature's largest activation in the prompt; 0 when it is not on."""
    reading = readings.get(feature.sae)
    if reading is None:
        return 0.0
    return float(np.max(reading.activations, initial=0, where=reading.indices == feature.index))


def clamp_scale(clamp: Clamp, page: FeaturePage | None, largest_seen: float) -> ClampScale:
    """The slider's scale: multiples of the known maximum, else activation units."""
    if clamp.mode == "scale":
        return ClampScale(1.0, -4.0, 10.0, " × present", (0.0, 1.0))
    if page and page.max_activation > 0:
        return ClampScale(page.max_activation, -4.0, 10.0, " × max", (0.0, 1.0))
    reach = max(largest_seen * 4, _DEFAULT_RANGE)
    return ClampScale(1.0, -reach, reach, "", (0.0,))


# -- text -------------------------------------------------------------------------------


class Span(NamedTuple):
    """Positions from start up to, not including, stop."""

    start: int
    stop: int


class Changes(NamedTuple):
    """Where two texts differ, on each side."""

    baseline: tuple[Span, ...]
    steered: tuple[Span, ...]


def changed_spans(baseline: Sequence[int], steered: Sequence[int]) -> Changes:
    """Where the token ids differ: what each side has and the other has not there."""
    matcher = SequenceMatcher(None, baseline, steered, autojunk=False)
    edits = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    return Changes(
        tuple(Span(a, b) for _, a, b, _, _ in edits if b > a),
        tuple(Span(c, d) for _, _, _, c, d in edits if d > c),
    )


def positions_in(spans: Sequence[Span]) -> frozenset[int]:
    """Every position inside one of the spans."""
    return frozenset(p for span in spans for p in range(*span))


def tint_strength(written: WrittenToken, tint: Tint) -> float:
    """How strongly a written token is tinted, 0 to 1.

    By probability, the less expected the stronger; by KL, full at two nats.
    """
    if tint == "probability":
        return 1.0 - min(max(written.probability, 0.0), 1.0)
    if tint == "kl" and written.kl is not None:
        return min(max(written.kl / _KL_FULL_TINT_NATS, 0.0), 1.0)
    return 0.0


def written_facts(written: WrittenToken) -> str:
    """Probability, KL and id of a written token, a line each."""
    lines = [
        f"“{visible_text(written.token.text)}”",
        f"probability {percent(written.probability)}",
    ]
    if written.kl is not None:
        lines.append(f"KL from the unclamped model {written.kl:.3f} nats")
    return "\n".join([*lines, f"token id {written.token.id}"])
