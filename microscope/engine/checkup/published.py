"""What an SAE's own folder tells of the values that its makers measured."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microscope.core.checkup import Published

if TYPE_CHECKING:
    from microscope.core.cards import SaeCard

_L0 = re.compile(r"average_l0_(\d{1,5})(?:/|$)")
_EVALUATION = "eval_results.json"
_MAX_BYTES = 1 << 20


def published_values(card: SaeCard, told: Published | None) -> Published:
    """What is published: as told, else as the folder's name or its evaluation says."""
    told = told or Published()
    evaluation = _evaluation(Path(card.source))
    variance, l0 = told.explained_variance, told.l0
    if variance is None:
        variance = _number(evaluation.get("frac_variance_explained"))
    if l0 is None:
        l0 = _number(evaluation.get("l0"))
    if l0 is None and (match := _L0.search(Path(card.source).as_posix())):
        l0 = float(match[1])
    return Published(variance, l0)


def _evaluation(source: Path) -> dict[str, Any]:
    """The results that dictionary_learning writes beside an SAE; empty if there are none."""
    path = (source if source.is_dir() else source.parent) / _EVALUATION
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # it is an extra; the SAE can be measured without it
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]
