"""From what was measured on an SAE to a finding: does it pass, and what does that mean?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from microscope.core.checkup import Finding

if TYPE_CHECKING:
    from microscope.core.checkup import Published
    from microscope.engine.checkup.fit import Fit

LEAST_EXPLAINED = 0.5
"""Where nothing is published; published SAEs of residual streams explain 0.6 to 0.95."""

MOST_ACTIVE = 500.0
"""Where nothing is published: a mean number of active features that is no longer sparse."""

PUBLISHED_MARGIN = 0.15
"""How far below the published value a few hundred tokens of another text may fall."""

PUBLISHED_FACTOR = 3.0
"""How many times more or fewer features than published may be on."""

GOOD_ENOUGH = 0.9
"""From here on no other way of using the SAE is tried."""

_CLEAR_GAIN = 0.1
_DOUBT_GAIN, _DOUBT_SHARE = 0.05, 0.5


@dataclass(frozen=True)
class Explanation:
    """Another way of using an SAE, measured."""

    fit: Fit
    conclusion: str


def least_explained(published: Published) -> float:
    """The explained variance that an SAE has to reach."""
    if published.explained_variance is None:
        return LEAST_EXPLAINED
    return published.explained_variance - PUBLISHED_MARGIN


def deserves_a_second_look(fit: Fit, published: Published) -> bool:
    """Whether other ways of using the SAE should be measured."""
    known = published.explained_variance
    return not fit.explained_variance >= (GOOD_ENOUGH if known is None else known)


def verdict(
    name: str, fit: Fit, published: Published, explanations: tuple[Explanation, ...] = ()
) -> Finding:
    """The finding on one SAE.

    Args:
        name: what the SAE is called.
        fit: how it fits as it is used.
        published: what its makers measured.
        explanations: how it fits when it is used in other ways.
    """
    limit = least_explained(published)
    better = best_explanation(fit, limit, explanations)
    variance, active = _variance(fit, published), _active(fit, published)
    if better:
        trouble = f"{variance}: {_explained(better)}"
    elif not fit.explained_variance >= limit:
        trouble = f"{variance}: {_unexplained(fit, limit)}"
    elif crowding := _crowding(fit, published):
        trouble = f"{active}: {crowding}"
    else:
        trouble = ""
    sentence = trouble or f"{variance}; {active}"
    return Finding(name, not trouble, fit.explained_variance, limit, f"{_capital(sentence)}.")


def best_explanation(
    fit: Fit, limit: float, explanations: tuple[Explanation, ...]
) -> Explanation | None:
    """The other way that fits best, if it fits well and clearly better than the present one.

    An SAE that passes is doubted only when another way halves what it leaves unexplained.
    """
    best = max(explanations, key=lambda other: other.fit.explained_variance, default=None)
    if best is None or not best.fit.explained_variance >= min(limit, LEAST_EXPLAINED):
        return None
    present = fit.explained_variance
    gain = best.fit.explained_variance - present
    if present >= limit:
        is_clear = gain > max(_DOUBT_GAIN, _DOUBT_SHARE * (1 - present))
    else:
        is_clear = not gain <= _CLEAR_GAIN  # the present one may be NaN
    return best if is_clear else None


def _variance(fit: Fit, published: Published) -> str:
    known = published.explained_variance
    told = "" if known is None else f", {known:.2f} published"
    return f"explained variance {fit.explained_variance:.2f} here{told}"


def _active(fit: Fit, published: Published) -> str:
    told = "" if published.l0 is None else f", {published.l0:.0f} published"
    return f"{fit.l0:.0f} features on at a token{told}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _explained(better: Explanation) -> str:
    return f"{better.conclusion}, which would explain {better.fit.explained_variance:.2f}"


def _unexplained(fit: Fit, limit: float) -> str:
    if fit.explained_variance < 0:
        return "worse than the mean alone, so this SAE was made for another model or site"
    if fit.explained_variance >= 0:
        return f"{limit:.2f} or more was expected, so this SAE fits this model badly"
    return "its reconstructions are not finite numbers, so its weights are damaged"


def _crowding(fit: Fit, published: Published) -> str:
    """What is wrong with the number of active features; empty if nothing is."""
    if published.l0 is None:
        is_odd = fit.l0 > MOST_ACTIVE
        return "so many at once are not sparse, and may not mean anything" if is_odd else ""
    is_odd = not published.l0 / PUBLISHED_FACTOR <= fit.l0 <= published.l0 * PUBLISHED_FACTOR
    return "far from the published number, so its inputs are probably scaled" if is_odd else ""
