"""What is on this computer: models and SAEs in the Hugging Face cache and chosen folders.

Works without a network and without torch; every look reads the disk afresh.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from microscope.core.cards import SPECIMEN
from microscope.core.library import LibraryContents, LocalModel
from microscope.storage.model_folder import CONFIG, examine

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo

    from microscope.core.library import SaeRelease

log = logging.getLogger(__name__)

MAX_DEPTH = 3
MAX_FOLDERS = 2000


def look(
    folders: Collection[str] = (),
    recent: Collection[str] = (),
    releases: Collection[SaeRelease] = (),
    cache: Path | None = None,
) -> LibraryContents:
    """Find models in the cache, in chosen folders and among the recent ones.

    Args:
        folders: folders that hold models, or are one.
        recent: sources that were opened lately; those that are gone are listed with a reason.
        releases: known SAEs; their repositories are not listed as models.
        cache: where the Hugging Face cache is; the user's own by default.
    """
    snapshots, remarks = _cached(cache)
    sae_repositories = {release.repository for release in releases}
    models = {
        model.source: model
        for repository, folder in snapshots.items()
        if repository not in sae_repositories and (folder / CONFIG).is_file()
        for model in [_of_cache(repository, folder)]
    }
    for path in _chosen(folders):
        models.setdefault(str(path), examine(path, str(path), path.name))
    for source in recent:
        if source != SPECIMEN and source not in models:
            models[source] = _recent(source)
        if source in models:
            models[source] = msgspec.structs.replace(models[source], is_recent=True)
    return LibraryContents(
        _ordered(models, recent),
        {repository: str(folder) for repository, folder in snapshots.items()},
        _saes_in(snapshots, releases),
        remarks,
    )


def _saes_in(
    snapshots: dict[str, Path], releases: Collection[SaeRelease]
) -> dict[str, tuple[int, ...]]:
    """The layers of each release whose file or folder is there."""
    here = {
        release.name: tuple(
            layer
            for layer in release.layers
            if (snapshots[release.repository] / release.path_of(layer)).exists()
        )
        for release in releases
        if release.repository in snapshots
    }
    return {name: layers for name, layers in here.items() if layers}


def _of_cache(repository: str, folder: Path) -> LocalModel:
    """A model of the cache; its hub id opens it where that leads to this snapshot."""
    root = folder.parents[1]
    reference = root / "refs" / "main"
    is_main = reference.is_file() and reference.read_text().strip() == folder.name
    return examine(folder, repository if is_main else str(folder), repository)


def _ordered(models: dict[str, LocalModel], recent: Collection[str]) -> tuple[LocalModel, ...]:
    """Recent ones first, newest first; then by name."""
    places = {source: place for place, source in enumerate(recent)}
    last = len(places)
    return tuple(
        sorted(models.values(), key=lambda m: (places.get(m.source, last), m.name.lower()))
    )


def _recent(source: str) -> LocalModel:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return examine(folder, source, folder.resolve().name)
    gone = f"{source} is no longer there. Put it back, or download it again."
    return LocalModel(source=source, name=source, folder="", problem=gone)


def _cached(cache: Path | None) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Snapshot folders by hub id, and what could not be read."""
    # Takes half a second to import, which the window should not wait for.
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(cache)
    except (CacheNotFound, ValueError, OSError) as error:
        log.info("no Hugging Face cache: %s", error)
        return {}, ()
    snapshots = {
        repository.repo_id: Path(_newest(repository).snapshot_path)
        for repository in sorted(found.repos, key=lambda repo: repo.repo_id)
        if repository.repo_type == "model" and repository.revisions
    }
    return snapshots, tuple(str(warning) for warning in found.warnings)


def _newest(repository: CachedRepoInfo) -> CachedRevisionInfo:
    """The snapshot that the main branch points to, else the latest."""
    return max(
        repository.revisions,
        key=lambda revision: ("main" in revision.refs, revision.last_modified),
    )


def _chosen(folders: Collection[str]) -> Iterator[Path]:
    for folder in folders:
        yield from _models_below(Path(folder).expanduser())


def _models_below(root: Path) -> Iterator[Path]:
    """Folders with a configuration and perhaps weights; nothing is looked for inside one."""
    waiting, n_seen = [(root, 0)], 0
    while waiting and n_seen < MAX_FOLDERS:
        folder, depth = waiting.pop()
        n_seen += 1
        if (folder / CONFIG).is_file():
            yield folder
        elif depth < MAX_DEPTH:
            waiting += [(path, depth + 1) for path in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir(), reverse=True)
    except OSError:
        log.info("the folder %s cannot be read", folder)
        return []
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]
