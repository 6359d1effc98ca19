"""The correctness badge: from findings to a colour, a line and a longer word, purely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from microscope.session.derived import exactness_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.core.cards import ModelCard
    from microscope.core.checkup import Finding

BadgeColour = Literal["good", "caution"]

_OPENED_EXACT = (
    "Exact: when the model was opened, the top row of the heatmap equalled the model's own\n"
    "output, so nothing is lost between the model and this picture of it."
)
_CLICK = "Click for the whole check-up."


class Badge(NamedTuple):
    """What the badge shows; `line` is empty while there is nothing to judge."""

    colour: BadgeColour
    line: str
    tip: str


def badge(
    model: ModelCard | None,
    findings: Sequence[Finding],
    *,
    is_checking: bool = False,
    failure: str = "",
) -> Badge:
    """The badge for an open model: green, or amber with the reason.

    Args:
        model: the open model.
        findings: what the last check-up found; empty before the first.
        is_checking: whether one is under way.
        failure: why the last one did not come to its end.
    """
    if model is None:
        return Badge("good", "", "")
    troubles = [finding for finding in findings if not finding.passed]
    if not model.is_exact:
        return Badge("caution", exactness_line(model), f"{model.remark}\n{_CLICK}")
    if troubles:
        return Badge("caution", _trouble_line(troubles), f"{_told(troubles)}\n{_CLICK}")
    if failure:
        return Badge("caution", "not checked", f"{failure}\n{_CLICK}")
    if is_checking:
        return Badge("good", "exact, checking", f"{_OPENED_EXACT}\n{_CLICK}")
    if findings:
        passed = f"All {len(findings)} checks of the model and its SAEs passed."
        return Badge("good", "exact", f"{passed}\n{_CLICK}")
    return Badge("good", "exact", f"{_OPENED_EXACT}\n{_CLICK}")


def checkup_heading(
    findings: Sequence[Finding], *, is_checking: bool = False, failure: str = ""
) -> str:
    """The sentence above the list of findings."""
    if is_checking:
        return "Checking. Reading and writing go first, so this may take a while."
    if failure:
        return failure
    if not findings:
        return "Nothing has been checked yet."
    n_passed = sum(finding.passed for finding in findings)
    if n_passed == len(findings):
        return f"All {len(findings)} checks passed."
    return f"{n_passed} of {len(findings)} checks passed."


def _trouble_line(troubles: Sequence[Finding]) -> str:
    first = troubles[0]
    more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
    return f"{first.name}{more}: {first.sentence}"


def _told(troubles: Sequence[Finding]) -> str:
    return "\n".join(f"{finding.name}: {finding.sentence}" for finding in troubles)
