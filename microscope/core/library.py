"""What is known of a model or of SAEs before they are opened: facts, sizes and verdicts.

Sizes are in bytes and counted from file headers or computed from shapes. Nothing here looks
at a disk or a network.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Choice = Literal["auto", "float32", "bfloat16", "8bit", "4bit"]
"""How weights are held in memory; `auto` is the engine's own choice for the device."""

Device = Literal["cpu", "cuda"]


class ModelShape(msgspec.Struct, frozen=True):
    """The sizes of a network that decide how much memory a run takes; 0 is not known."""

    n_layers: int = 0
    d_model: int = 0
    n_heads: int = 0
    n_kv_heads: int = 0
    head_dim: int = 0
    n_vocabulary: int = 0


class LocalModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on this computer. `source` opens it; with a `problem` it cannot be opened."""

    source: str
    name: str
    folder: str
    architecture: str = ""
    n_parameters: int = 0
    dtype: str = ""
    size_bytes: int = 0
    shape: ModelShape = ModelShape()
    is_recent: bool = False
    problem: str = ""


class SaeRelease(msgspec.Struct, frozen=True, kw_only=True):
    """A set of published SAEs of one width for one model, an SAE a layer.

    `site`, `site_out`, `path` and `labels` hold `{layer}`, and `path` perhaps `{l0}`; where
    the folders follow no pattern, `paths` has one for each of `layers`. None is not known.
    `needs_login` is for the model; `bytes_per_number` is that of the published weights.
    """

    name: str
    repository: str
    model: str
    format: str
    site: str
    layers: tuple[int, ...]
    d_in: int
    width: int | None = None
    path: str = ""
    paths: tuple[str, ...] = ()
    site_out: str = ""
    l0: tuple[float | None, ...] | None = None
    labels: str | None = None
    is_centred: bool = False
    licence: str | None = None
    needs_login: bool | None = None
    bytes_per_number: int = 4

    def path_of(self, layer: int) -> str:
        """The folder or file of one SAE, inside the repository.

        Raises:
            ValueError: the release has no SAE of that layer.
        """
        place = self.layers.index(layer)
        if self.paths:
            return self.paths[place]
        l0 = self.l0[place] if self.l0 else None
        return self.path.format(layer=layer, l0="" if l0 is None else f"{l0:g}")

    def site_of(self, layer: int) -> str:
        """The site that one SAE reads."""
        return self.site.format(layer=layer)

    def size_bytes(self, n_saes: int = 1) -> int | None:
        """Encoder and decoder weights of so many SAEs; None where the width is not known."""
        if self.width is None:
            return None
        return 2 * self.d_in * self.width * self.bytes_per_number * n_saes


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is a good first choice, and which SAEs of which release to take with it."""

    name: str
    about: str
    model: str
    n_parameters: int
    dtype: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocabulary: int
    licence: str | None
    needs_login: bool | None
    release: str
    layers: tuple[int, ...]

    @property
    def shape(self) -> ModelShape:
        """The sizes that decide how much memory it takes."""
        return ModelShape(
            self.n_layers,
            self.d_model,
            self.n_heads,
            self.n_kv_heads,
            self.head_dim,
            self.n_vocabulary,
        )

    @property
    def size_bytes(self) -> int:
        """The published weights: parameters times the size of one."""
        return self.n_parameters * (4 if self.dtype == "float32" else 2)


class LibraryContents(msgspec.Struct, frozen=True):
    """What is on this computer.

    `folders` are the snapshots of hub repositories by hub id; `saes` the layers of each
    release, by its name, whose SAEs are here; `remarks` what could not be read.
    """

    models: tuple[LocalModel, ...] = ()
    folders: dict[str, str] = {}
    saes: dict[str, tuple[int, ...]] = {}
    remarks: tuple[str, ...] = ()

    def model(self, source: str) -> LocalModel | None:
        """The model that a source opens, where it can be opened."""
        found = (m for m in self.models if m.source == source and not m.problem)
        return next(found, None)


class FreeMemory(msgspec.Struct, frozen=True):
    """What is free, in bytes; None is not known, and no GPU is 0."""

    cpu_bytes: int | None = None
    gpu_bytes: int = 0
    gpu_name: str = ""

    @property
    def device(self) -> Device:
        """Where the engine would put a model by itself."""
        return "cuda" if self.gpu_bytes else "cpu"

    @property
    def usable_bytes(self) -> int | None:
        """What is free there."""
        return self.gpu_bytes or self.cpu_bytes


class MemoryNeed(msgspec.Struct, frozen=True):
    """An estimate of what opening a model and reading a prompt take, in bytes."""

    weights: int
    cache: int
    working: int
    saes: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.working + self.saes


class Verdict(msgspec.Struct, frozen=True):
    """Whether a choice fits, a sentence that says so, and smaller choices that would fit."""

    choice: Choice
    need: MemoryNeed
    free_bytes: int | None
    fits: bool
    sentence: str
    smaller: tuple[Choice, ...] = ()


class DownloadPart(msgspec.Struct, frozen=True):
    """Files of one repository, by patterns such as `layer_3/*`, and what to leave out."""

    repository: str
    patterns: tuple[str, ...]
    ignored: tuple[str, ...] = ()


class DownloadJob(msgspec.Struct, frozen=True):
    """Something to fetch; `key` names it for the one who asked."""

    key: str
    title: str
    parts: tuple[DownloadPart, ...]


class DownloadStarted(msgspec.Struct, frozen=True, tag_field="kind", tag="started"):
    """Sizes are known: bytes in all, and those that are here already."""

    total: int
    done: int


class DownloadAdvanced(msgspec.Struct, frozen=True, tag_field="kind", tag="advanced"):
    """So many bytes are here; `file` is being fetched."""

    done: int
    total: int
    file: str


class DownloadFinished(msgspec.Struct, frozen=True, tag_field="kind", tag="finished"):
    """All is here; a folder for each part, in order."""

    folders: tuple[str, ...]


class DownloadFailed(msgspec.Struct, frozen=True, tag_field="kind", tag="failed"):
    """It stopped; what has been fetched is kept, and the next attempt goes on from there."""

    summary: str


class DownloadCancelled(msgspec.Struct, frozen=True, tag_field="kind", tag="cancelled"):
    """The user stopped it; what has been fetched is kept."""


class LookedAround(msgspec.Struct, frozen=True):
    """A look at the disk and the memory is done."""

    contents: LibraryContents
    free: FreeMemory


DownloadEvent = (
    DownloadStarted | DownloadAdvanced | DownloadFinished | DownloadFailed | DownloadCancelled
)


class DownloadReport(msgspec.Struct, frozen=True):
    """An event of the download of a job."""

    key: str
    event: DownloadEvent


LibraryEvent = LookedAround | DownloadReport
