"""Says what a file or folder of SAEs is, without a model to open it on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from microscope.core.errors import SaeUnreadable, UserError
from microscope.engine.saes.loading import FORMATS, find_saes, why_nothing


def inspect_saes(source: str) -> list[dict[str, Any]]:
    """What is known of each SAE at or below a path, in plain values.

    Where there are several, one that cannot be opened has a `problem` in place of facts.

    Raises:
        SaeUnreadable: there is none, or there is one and it cannot be opened.
    """
    found = find_saes(source)
    if not found:
        raise SaeUnreadable(why_nothing(source))
    if len(found) == 1:
        return [_facts(Path(found[0]))]
    return [_facts_or_problem(Path(path)) for path in found]


def _facts_or_problem(path: Path) -> dict[str, Any]:
    try:
        return _facts(path)
    except UserError as error:
        return {"source": str(path), "problem": str(error)}


def _facts(path: Path) -> dict[str, Any]:
    sae_format = next(known for known in FORMATS if known.recognises(path))
    sae = sae_format.read(path, torch.device("cpu"))
    card = sae.card
    return {
        "source": str(path),
        "format": sae_format.name,
        "architecture": card.architecture,
        "site": card.site,
        "site_out": card.site_out or card.site,
        "d_in": card.d_in,
        "d_out": card.d_out or card.d_in,
        "n_features": card.n_features,
        "activation": _named(sae.activation),
        "normalisation": _normalisation(sae.normalisation),
        "subtracts_b_dec": sae.subtracts_b_dec,
        "dtype": str(sae.w_enc.dtype).removeprefix("torch."),
        "folded": card.is_folded,
        "remarks": [card.remark] if card.remark else [],
    }


def _named(thing: object) -> str:
    """The kind of a part, in lower case."""
    return type(thing).__name__.lower()


def _normalisation(normalisation: Any) -> dict[str, Any]:
    factor = getattr(normalisation, "factor", None)
    facts = {"kind": _named(normalisation), "factor": factor}
    return {name: msgspec.to_builtins(value) for name, value in facts.items() if value}
