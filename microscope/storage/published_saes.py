"""Recognises published SAEs by where their files stand, and what is known of them."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from microscope.core.checkup import Published
from microscope.core.errors import InstallationBroken
from microscope.storage.paths import user_data
from microscope.storage.releases import load_releases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from microscope.core.cards import SaeCard
    from microscope.core.library import SaeRelease

log = logging.getLogger(__name__)

PAGES_FOLDER = "pages"


def release_of(source: str, releases: Iterable[SaeRelease]) -> tuple[SaeRelease, int] | None:
    """The release and layer that a path holds; None if it is of none that is known.

    The path ends as in the release's repository, and has the repository's name above: as a
    folder of that name, or as the hub's cache writes it.
    """
    place = f"/{Path(source).as_posix().strip('/')}/"
    for release in releases:
        owner, _, name = release.repository.partition("/")
        if f"/models--{owner}--{name}/" not in place and f"/{name}/" not in place:
            continue
        for layer in release.layers:
            if (path := release.path_of(layer)) and f"/{path}/" in place:
                return release, layer
    return None


def published_of(sae: SaeCard) -> Published | None:
    """What the makers of an SAE measured, if it is of a release that is known."""
    found = _known(sae)
    if found is None:
        return None
    release, layer = found
    l0 = release.l0[release.layers.index(layer)] if release.l0 else None
    return None if l0 is None else Published(l0=l0)


def labels_store(sae: SaeCard) -> Path:
    """Where imported labels of an SAE are kept; the file need not exist.

    Named for the release, so that labels outlast a move of the files, or else for the place.
    """
    found = _known(sae)
    where = f"{found[0].name}\0{found[0].path_of(found[1])}" if found else sae.source
    key = hashlib.sha256(f"{where}\0{sae.site}".encode()).hexdigest()[:24]
    return user_data() / PAGES_FOLDER / f"{key}.sqlite"


def _known(sae: SaeCard) -> tuple[SaeRelease, int] | None:
    try:
        return release_of(sae.source, load_releases().releases)
    except InstallationBroken:
        log.warning("published SAEs are not recognised", exc_info=True)
        return None
