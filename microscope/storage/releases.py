"""The published SAE releases and starter models that ship as facts, and a search in them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from microscope.core.errors import InstallationBroken
from microscope.core.library import DownloadJob, DownloadPart, SaeRelease, Starter
from microscope.storage.paths import resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FILE = "releases.json"

MODEL_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "tekken.json",
    "chat_template*",
    "LICENSE*",
)
"""Weights as safetensors, tokenizer and configuration; never a pickle."""

IGNORED_OF_MODELS = ("*/*", "consolidated*", "adapter_*")
"""Copies of the same weights for other programs."""

_SAE_SUFFIXES = ("json", "safetensors", "npz", "pt", "pth", "yaml")


class Releases(msgspec.Struct, frozen=True):
    """What the file holds."""

    version: int
    starters: tuple[Starter, ...]
    releases: tuple[SaeRelease, ...]

    def release(self, name: str) -> SaeRelease:
        """The release of a name. Raises `KeyError`."""
        for release in self.releases:
            if release.name == name:
                return release
        raise KeyError(name)


def load_releases(path: Path | None = None) -> Releases:
    """Read the file that ships with the program.

    Raises:
        InstallationBroken: it is missing or damaged.
    """
    path = path or resources() / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Releases)
    except (OSError, msgspec.MsgspecError) as error:
        raise InstallationBroken(
            f"The list of published SAEs cannot be read ({error}). Install Microscope again."
        ) from error


def search(releases: Iterable[SaeRelease], words: str) -> tuple[SaeRelease, ...]:
    """The releases in which every word occurs, whatever its case, in any of the names."""
    wanted = words.lower().split()
    return tuple(
        release for release in releases if all(word in _haystack(release) for word in wanted)
    )


def sae_job(release: SaeRelease, layers: Sequence[int]) -> DownloadJob:
    """Fetch the SAEs of some layers."""
    return DownloadJob(release.name, release.name, (sae_part(release, layers),))


def starter_job(starter: Starter, release: SaeRelease) -> DownloadJob:
    """Fetch a starter's model and its SAEs out of its release."""
    parts = (model_part(starter.model), sae_part(release, starter.layers))
    return DownloadJob(starter.model, starter.name, parts)


def model_part(model: str) -> DownloadPart:
    """The files of a model that are worth having."""
    return DownloadPart(model, MODEL_PATTERNS, IGNORED_OF_MODELS)


def sae_part(release: SaeRelease, layers: Sequence[int]) -> DownloadPart:
    """The files of some of a release's SAEs, and the settings beside or above them."""
    patterns = [pattern for layer in layers for pattern in _patterns_of(release.path_of(layer))]
    return DownloadPart(release.repository, (*patterns, "config.yaml", "LICENSE*"))


def is_wanted(name: str, part: DownloadPart) -> bool:
    """Whether a file of a repository belongs to a download."""
    return any(fnmatchcase(name, pattern) for pattern in part.patterns) and not any(
        fnmatchcase(name, pattern) for pattern in part.ignored
    )


def _patterns_of(path: str) -> tuple[str, ...]:
    inside = tuple(f"{path}/*.{suffix}" for suffix in _SAE_SUFFIXES)
    stem, dot, _ = path.rpartition(".")
    beside = (f"{stem}_cfg.json",) if dot and "/" not in path else ()
    return (path, *inside, *beside)


def _haystack(release: SaeRelease) -> str:
    texts = (
        release.name,
        release.repository,
        release.model,
        release.format,
        release.site,
        release.licence or "",
    )
    return " ".join(texts).lower()
