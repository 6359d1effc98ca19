"""From the library to what its dialog shows: rows, facts and sentences. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from microscope.core.library import Verdict
from microscope.storage.fitting import available_choices, in_words, judge
from microscope.storage.releases import search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.core.library import (
        FreeMemory,
        LocalModel,
        ModelShape,
        SaeRelease,
        Starter,
    )
    from microscope.session.library import DownloadState, Library

Kind = Literal["starter", "model", "release"]

LOGIN_NOTE = (
    "Its owner asks for a login: accept the conditions on its page on the hub, and run "
    "'hf auth login' once in a terminal."
)
CENTRED_NOTE = "Trained on centred activations, which is taken into account."


class Entry(msgspec.Struct, frozen=True):
    """One thing in the library. `columns` are its row, `facts` the lines of its card.

    `key` is its name for the librarian; `job` the key of its download. `verdicts` is empty
    for SAEs, and for a model that cannot be opened, which has a `problem`. `can_fetch` says
    whether the hub has it, as far as is known.
    """

    kind: Kind
    key: str
    title: str
    about: str = ""
    columns: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    size_bytes: int | None = None
    is_here: bool = False
    can_fetch: bool = True
    problem: str = ""
    layers: tuple[int, ...] = ()
    layers_here: tuple[int, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    job: str = ""


MODEL_COLUMNS = ("model", "parameters", "dtype", "on disk", "memory")
RELEASE_COLUMNS = ("SAEs", "for the model", "site", "width", "layers", "here")


def starter_entries(library: Library) -> tuple[Entry, ...]:
    """The starter models, in their order."""
    return tuple(_starter(starter, library) for starter in library.starters)


def model_entries(library: Library, words: str = "") -> tuple[Entry, ...]:
    """The models that are here and have every word in their name or architecture."""
    wanted = words.lower().split()
    return tuple(
        _model(model, library)
        for model in library.contents.models
        if all(word in f"{model.name} {model.architecture}".lower() for word in wanted)
    )


def release_entries(library: Library, words: str = "") -> tuple[Entry, ...]:
    """The SAE releases in which every word occurs; those of which some are here first."""
    found = search(library.releases, words)
    here = library.contents.saes
    return tuple(
        _release(release, here.get(release.name, ()))
        for release in sorted(found, key=lambda release: release.name not in here)
    )


def folder_line(library: Library) -> str:
    """How much has been found, or that a look goes on."""
    if library.is_looking:
        return "Looking at the disk…"
    n_models = len(library.contents.models)
    where = "in the Hugging Face cache"
    if library.folders:
        where += f" and {_count(len(library.folders), 'folder')} of yours"
    found = f"{_count(n_models, 'model')} {where}"
    if library.contents.remarks:
        found += f"; not all could be read: {library.contents.remarks[0]}"
    return f"Working offline: {found}" if library.is_offline else found


def download_line(download: DownloadState) -> str:
    """A download in words."""
    if not download.total:
        return f"{download.title}: asking the hub"
    size = f"{in_words(download.done)} of {in_words(download.total)}"
    return f"{download.title}: {size}" + (f", {download.file}" if download.file else "")


def download_share(download: DownloadState) -> float | None:
    """The share that is here, 0 to 1; None where it is not known."""
    return min(download.done / download.total, 1.0) if download.total else None


def bar_parts(verdict: Verdict) -> tuple[tuple[str, int], ...]:
    """What an estimate is made of, in the order of the bar."""
    need = verdict.need
    parts = (
        ("weights", need.weights),
        ("SAEs", need.saes),
        ("cache", need.cache),
        ("work", need.working),
    )
    return tuple((name, size) for name, size in parts if size)


def default_layers(entry: Entry) -> tuple[int, ...]:
    """Which SAE of a release to take first: one that is here, else the middle one."""
    here = entry.layers_here
    return here[:1] or (entry.layers[len(entry.layers) // 2],)


def parameters_in_words(n_parameters: int) -> str:
    """A count of parameters: "1.7 billion"."""
    if n_parameters >= 0.9995e9:
        return f"{n_parameters / 1e9:.1f} billion"
    if n_parameters >= 1e6:
        return f"{n_parameters / 1e6:.0f} million"
    return f"{n_parameters:,}"


def _starter(starter: Starter, library: Library) -> Entry:
    release = library.release(starter.release)
    n_saes = len(starter.layers)
    published = release.size_bytes(n_saes) if release else None
    here = set(starter.layers) <= set(library.contents.saes.get(starter.release, ()))
    # They are float32 in memory, whatever they were published in.
    sae_bytes = 4 * (published or 0) // (release.bytes_per_number if release else 4)
    return Entry(
        kind="starter",
        key=starter.name,
        title=starter.name,
        about=starter.about,
        facts=(
            ("Model", starter.model),
            ("Parameters", parameters_in_words(starter.n_parameters)),
            ("Layers", _layers(starter.shape)),
            ("Published as", starter.dtype),
            ("SAEs", f"{starter.release}, {_layer_words(starter.layers)}"),
            ("Download", _sizes(starter.size_bytes, published)),
            ("Licence", starter.licence or "not known"),
            *_release_facts(release),
        ),
        notes=_notes(starter.needs_login),
        size_bytes=starter.size_bytes + (published or 0),
        is_here=here and library.contents.model(starter.model) is not None,
        verdicts=_verdicts(starter, library.free, sae_bytes),
        job=starter.model,
    )


def _model(model: LocalModel, library: Library) -> Entry:
    verdicts = () if model.problem else _verdicts(model, library.free)
    fits = "" if not verdicts else "fits" if verdicts[0].fits else "too large"
    parameters = parameters_in_words(model.n_parameters) if model.n_parameters else ""
    return Entry(
        kind="model",
        key=model.source,
        title=model.name,
        about="Opened lately." if model.is_recent else "",
        columns=(
            model.name,
            parameters,
            model.dtype,
            in_words(model.size_bytes) if model.size_bytes else "",
            "damaged" if model.problem else fits,
        ),
        facts=tuple(
            (name, value)
            for name, value in (
                ("Architecture", model.architecture),
                ("Parameters", parameters),
                ("Layers", _layers(model.shape)),
                ("Stored as", model.dtype),
                ("On disk", in_words(model.size_bytes) if model.size_bytes else ""),
                ("Folder", model.folder),
            )
            if value
        ),
        size_bytes=model.size_bytes,
        is_here=not model.problem,
        can_fetch=model.source in library.contents.folders,
        problem=model.problem,
        verdicts=verdicts,
        job=model.source,
    )


def _release(release: SaeRelease, here: tuple[int, ...]) -> Entry:
    size = release.size_bytes()
    site = release.site.removeprefix("blocks.{layer}.")
    width = f"{release.width:,}" if release.width else "not known"
    return Entry(
        kind="release",
        key=release.name,
        title=release.name,
        columns=(
            release.name,
            release.model,
            site,
            width,
            str(len(release.layers)),
            str(len(here)) if here else "",
        ),
        facts=(
            ("For the model", release.model),
            ("Repository", release.repository),
            ("Format", release.format),
            ("Reads at", site),
            *((("Writes at", release.site_out.removeprefix("blocks.{layer}.")),)
              if release.site_out else ()),
            ("Features", width),
            ("Layers", _layer_words(release.layers)),
            ("Active at once", _l0(release)),
            ("Size of one", in_words(size) if size else "not known"),
            ("Licence", release.licence or "not known"),
            ("Labels", _labels(release)),
        ),
        notes=(CENTRED_NOTE,) if release.is_centred else (),
        size_bytes=size,
        is_here=bool(here),
        layers=release.layers,
        layers_here=here,
        job=release.name,
    )  # fmt: skip


def _verdicts(
    model: LocalModel | Starter, free: FreeMemory, sae_bytes: int = 0
) -> tuple[Verdict, ...]:
    """The engine's own choice first, then the others, largest first."""
    own = judge(model, "auto", free, sae_bytes)
    others = (c for c in available_choices() if c != own.choice)
    return (own, *(judge(model, choice, free, sae_bytes) for choice in others))


def _release_facts(release: SaeRelease | None) -> tuple[tuple[str, str], ...]:
    if release is None:
        return ()
    return (
        ("Licence of the SAEs", release.licence or "not known"),
        ("Labels", _labels(release)),
    )


def _labels(release: SaeRelease) -> str:
    """Where labels are, by the name of the source there."""
    if release.labels is None:
        return "none known"
    return f"Neuronpedia, {release.labels.format(layer='LAYER')}"


def _notes(needs_login: bool | None) -> tuple[str, ...]:
    return (LOGIN_NOTE,) if needs_login else ()


def _sizes(model: int, saes: int | None) -> str:
    about_saes = f" and {in_words(saes)} of SAEs" if saes else ""
    return f"about {in_words(model)}{about_saes}"


def _layers(shape: ModelShape) -> str:
    return f"{shape.n_layers} of width {shape.d_model}" if shape.n_layers else ""


def _layer_words(layers: Sequence[int]) -> str:
    """In words: "layers 0 to 11", "layers 3, 7 and 11", "layer 19"."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"


def _l0(release: SaeRelease) -> str:
    known = [value for value in release.l0 or () if value is not None]
    if not known:
        return "not known"
    low, high = min(known), max(known)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, by layer"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
