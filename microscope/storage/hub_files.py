"""Fetches files of a hub repository into the Hugging Face cache, going on where it stopped.

The hub's own client begins a file anew in every process, so large files are fetched here,
through its public functions: into `blobs/<etag>.incomplete` of the cache, from the byte where
an earlier attempt ended, checked against their SHA-256, and moved to the place where the
client finds them. The client then makes the snapshot and fetches the small files.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from microscope.core.errors import DownloadStopped
from microscope.storage.fitting import in_words
from microscope.storage.releases import is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from huggingface_hub import HfFileMetadata

    from microscope.core.library import DownloadPart

LARGE_BYTES = 4 << 20
MARGIN_BYTES = 256 << 20
"""What stays free on the disk."""

CHUNK_BYTES = 1 << 18
"""What is lost at most when the process is ended."""

_HASH_CHUNK_BYTES = 1 << 22
_SHA256_LENGTH = 64


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, at one commit."""

    repository: str
    commit: str
    name: str
    size_bytes: int

    @property
    def is_here(self) -> bool:
        """Whether the cache has it."""
        found = try_to_load_from_cache(self.repository, self.name, revision=self.commit)
        return isinstance(found, str)


def list_files(part: DownloadPart) -> list[HubFile]:
    """The files of a download, and their sizes, as the hub tells them.

    Raises:
        DownloadStopped: the repository has none of them.
    """
    about = HfApi().model_info(part.repository, files_metadata=True)
    files = [
        HubFile(part.repository, about.sha or "main", file.rfilename, file.size or 0)
        for file in about.siblings or ()
        if is_wanted(file.rfilename, part)
    ]
    _check_weights(part, [file.name for file in files])
    return files


def check_room(files: Sequence[HubFile]) -> None:
    """See that the disk has room for what is missing.

    Raises:
        DownloadStopped: it has not.
    """
    cache = Path(constants.HF_HUB_CACHE)
    existing = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    missing = sum(file.size_bytes for file in files if not file.is_here)
    if missing + MARGIN_BYTES > free:
        raise DownloadStopped(
            f"The disk with {cache} has {in_words(free)} free, and {in_words(missing)} are to "
            "be fetched. Make room, or set HF_HOME to a folder on another disk."
        )


def fetch(file: HubFile, on_bytes: Callable[[int], None]) -> None:
    """Have a large file in the cache; `on_bytes` hears how many more of its bytes are here.

    Raises:
        DownloadStopped: what came is not what the hub announced.
    """
    url = hf_hub_url(file.repository, file.name, revision=file.commit)
    about = get_hf_file_metadata(url)
    if not about.etag:
        return  # the client will fetch it by its own means
    root = Path(constants.HF_HUB_CACHE)
    folder = repo_folder_name(repo_id=file.repository, repo_type="model")
    lock = root / ".locks" / folder / f"{about.etag}.lock"
    blob = root / folder / "blobs" / about.etag
    for place in (lock, blob):
        place.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            on_bytes(file.size_bytes)
        else:
            _fetch_blob(url, about, blob, on_bytes)


def make_snapshot(part: DownloadPart) -> str:
    """Let the client fetch what is still missing; the folder in which all of it is."""
    return snapshot_download(
        part.repository,
        allow_patterns=list(part.patterns),
        ignore_patterns=list(part.ignored),
    )


class _Counted(io.FileIO):
    """A file that tells how many bytes have been written to it."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path, "a+")
        self._on_bytes = on_bytes
        self.seek(0, os.SEEK_END)

    def write(self, data: object, /) -> int:
        """Write, and tell."""
        n_bytes = super().write(data)  # type: ignore[arg-type]
        self._on_bytes(n_bytes)
        return n_bytes

    def truncate(self, size: int | None = None, /) -> int:
        """Cut, and take back what had been told."""
        before = os.fstat(self.fileno()).st_size
        after = super().truncate(size)
        self._on_bytes(after - before)
        return after


def _fetch_blob(
    url: str, about: HfFileMetadata, blob: Path, on_bytes: Callable[[int], None]
) -> None:
    partial = blob.with_name(f"{blob.name}.incomplete")
    # The client's own 10 MB would be lost at every stop, and make the progress jump.
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    with _Counted(partial, on_bytes) as file:
        n_here = file.tell()
        if about.size is not None and n_here > about.size:
            os.ftruncate(file.fileno(), 0)
            n_here = 0
        on_bytes(n_here)
        http_get(
            about.location,
            file,
            resume_size=n_here,
            headers=_headers(url, about.location),
            expected_size=about.size,
        )
    _check_hash(partial, blob.name)
    partial.replace(blob)


def _headers(url: str, location: str) -> dict[str, str]:
    """Our headers; the login only for the hub itself, not for where it sends us."""
    headers = build_hf_headers()
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)
    return headers


def _check_hash(path: Path, etag: str) -> None:
    if len(etag) != _SHA256_LENGTH:
        return  # a small file; its name is a hash of another kind
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != etag:
        path.unlink()
        raise DownloadStopped(
            "A file came damaged from the hub, so it has been thrown away. Start again."
        )


def _check_weights(part: DownloadPart, names: Sequence[str]) -> None:
    if not names:
        raise DownloadStopped(
            f"{part.repository} has no files of the kind that was asked for. It may have been "
            "changed since this program was made."
        )
    wants_model = "*.safetensors" in part.patterns
    if wants_model and not any(name.endswith(".safetensors") for name in names):
        raise DownloadStopped(
            f"{part.repository} has no weights as safetensors. Weights in pickle files can run "
            "code when they are opened, so they are not downloaded."
        )
