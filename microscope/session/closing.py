"""What becomes of sources, names and clamps when one of the open SAEs is closed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from microscope.core.cards import own_name, unique_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from microscope.core.cards import SaeCard
    from microscope.core.features import Clamp, FeatureId


def sources_without(
    sources: Sequence[str], saes: Sequence[SaeCard], name: str
) -> tuple[str, ...]:
    """The sources to ask for when the SAE of a name is closed.

    A folder that gave several SAEs is replaced by those of them that stay. What has not been
    opened yet, or was refused, is asked for as before.
    """
    closed = {sae.source for sae in saes if sae.name == name}
    left: dict[str, None] = {}
    for source in sources:
        given = [sae.source for sae in saes if _gave(source, sae.source)]
        is_hit = not closed.isdisjoint(given)
        stays = [one for one in given if one not in closed] if is_hit else [source]
        left.update(dict.fromkeys(stays))
    return tuple(left)


def names_without(saes: Sequence[SaeCard], name: str) -> dict[str, str]:
    """Old and new names of the SAEs that stay.

    SAEs of one site are numbered in the order in which they are opened, so one that follows
    the closed one moves up.
    """
    names: dict[str, str] = {}
    for sae in saes:
        if sae.name != name:
            names[sae.name] = unique_name(own_name(sae.name), names.values())
    return names


def clamps_without(
    clamps: Sequence[Clamp], name: str, names: Mapping[str, str]
) -> tuple[Clamp, ...]:
    """The clamps of all SAEs but one, under the new names of theirs."""
    return tuple(
        msgspec.structs.replace(clamp, feature=renamed(clamp.feature, names))
        for clamp in clamps
        if clamp.feature.sae != name
    )


def renamed(feature: FeatureId, names: Mapping[str, str]) -> FeatureId:
    """The same feature, under its SAE's new name if that has one."""
    return msgspec.structs.replace(feature, sae=names.get(feature.sae, feature.sae))


def _gave(source: str, opened: str) -> bool:
    """Whether an SAE was found at a source, inside it, or as what a file is a part of."""
    asked, found = Path(os.path.abspath(os.path.expanduser(source))), Path(opened)
    return asked == found or asked in found.parents or found in asked.parents
