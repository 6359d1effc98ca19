"""Finding and opening SAEs on disk, whatever their format, and checking that they fit."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from microscope.core.errors import SaeMismatch, SaeUnreadable
from microscope.core.sites import Site, parse_site
from microscope.engine.saes import archive
from microscope.engine.saes.attention_pickle import ATTENTION_PICKLE
from microscope.engine.saes.circuit_tracer import CIRCUIT_TRACER
from microscope.engine.saes.cross_layer import CROSS_LAYER
from microscope.engine.saes.dictionary_learning import DICTIONARY_LEARNING
from microscope.engine.saes.gemma_scope import GEMMA_SCOPE
from microscope.engine.saes.gemma_scope_2 import GEMMA_SCOPE_2
from microscope.engine.saes.gemma_scope_2_clt import GEMMA_SCOPE_2_CLT
from microscope.engine.saes.goodfire import GOODFIRE
from microscope.engine.saes.llama_scope import LLAMA_SCOPE
from microscope.engine.saes.openai import OPENAI
from microscope.engine.saes.openmoss import OPENMOSS
from microscope.engine.saes.qresearch import QRESEARCH
from microscope.engine.saes.qwen_scope import QWEN_SCOPE
from microscope.engine.saes.saelens import SAELENS
from microscope.engine.saes.sparsify import SPARSIFY
from microscope.engine.sites import site_width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.core.cards import SaeCard
    from microscope.engine.language_model import LanguageModel
    from microscope.engine.saes.formats import SaeFormat
    from microscope.engine.saes.sae import Sae

FORMATS: tuple[SaeFormat, ...] = (
    GEMMA_SCOPE,
    SAELENS,
    SPARSIFY,
    GEMMA_SCOPE_2,
    DICTIONARY_LEARNING,
    LLAMA_SCOPE,
    OPENMOSS,
    OPENAI,
    GOODFIRE,
    QRESEARCH,
    QWEN_SCOPE,
    ATTENTION_PICKLE,
    CIRCUIT_TRACER,
    CROSS_LAYER,
    GEMMA_SCOPE_2_CLT,
)
"""The formats; the first that recognises a path has it."""

_SINGLE_FILES = archive.SUFFIXES | {".safetensors"}
"""Files that may be a whole SAE each."""

_MAX_DEPTH = 6
_MAX_FOLDERS = 20_000


def open_sae(source: str, model: LanguageModel, name: str | None = None) -> Sae:
    """Open the SAE in a folder, its tensors on the model's device.

    Args:
        source: the SAE's folder or file, a file in its folder, or a folder with one SAE inside.
        model: the open model that it has to fit.
        name: what clamps and readings will call it; the name of its site by default.

    Raises:
        SaeUnreadable: there is no SAE, there are several, or it is damaged or of another kind.
        SaeMismatch: it was made for a model of another width, depth or build.
    """
    path, sae_format = _the_only_one(source)
    card = sae_format.outline(path)
    _check_fit(card, model)
    sae = sae_format.read(path, model.network.device)
    for site in sae.outputs:
        _check_width(card, model, site, card.d_out or card.d_in)
    renamed = msgspec.structs.replace(sae.card, name=name or card.name)
    return replace(sae, card=renamed)


def find_saes(source: str) -> list[str]:
    """The SAEs at or below a path, layer 2 before layer 10; empty if there is none.

    Raises:
        SaeUnreadable: there is no such path.
    """
    return [str(path) for path, _ in _found(source)]


def _the_only_one(source: str) -> tuple[Path, SaeFormat]:
    found = _found(source)
    if not found:
        raise SaeUnreadable(why_nothing(source))
    if len(found) > 1:
        raise SaeUnreadable(
            f"{source} holds {len(found)} SAEs. Choose one of them, for example {found[0][0]}."
        )
    return found[0]


def _path(source: str) -> Path:
    """A whole path, since the names of the folders above often say what an SAE reads.

    Raises:
        SaeUnreadable: no system could have such a path.
    """
    try:
        path = Path(os.path.abspath(Path(source).expanduser()))
        path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise SaeUnreadable(f"{source!r} is no path to a folder or a file.") from error
    return path


def why_nothing(source: str) -> str:
    """A sentence on a path with no SAE. Raises `SaeUnreadable`, should it know a better one."""
    path = _path(source)
    if path.is_file() and path.suffix in archive.SUFFIXES:
        archive.members(path)  # a damaged archive has its own sentence
    return (
        f"{source} holds no SAE that can be opened: none of {len(FORMATS)} formats fits. One "
        "of SAELens, for example, is a folder with cfg.json and sae_weights.safetensors."
    )


def _found(source: str) -> list[tuple[Path, SaeFormat]]:
    path = _path(source)
    if path.is_file():
        return list(_around(path))[:1]
    if not path.is_dir():
        is_else = path.exists() or path.is_symlink()
        raise SaeUnreadable(
            f"{source} is neither a folder nor a file, or a link that leads nowhere."
            if is_else
            else f"There is no folder or file {source}."
        )
    return sorted(_walk(path), key=lambda found: _natural_order(str(found[0])))


def _around(file: Path) -> Iterator[tuple[Path, SaeFormat]]:
    """What a file is, or what the folders around it are that it may be a part of."""
    for place in (file, *file.parents[:2]):
        known = _format_of(place)
        if known is not None:
            yield place, known


def _walk(root: Path) -> Iterator[tuple[Path, SaeFormat]]:
    """What is of a known format; nothing is looked for inside such a folder, nor very deep."""
    for n_seen, (path, below, files) in enumerate(os.walk(root)):
        folder = Path(path)
        known = _format_of(folder)
        if known is not None:
            yield folder, known
        else:
            yield from _single_files(folder, files)
        is_deep = len(folder.parts) - len(root.parts) >= _MAX_DEPTH
        if known is not None or is_deep or n_seen >= _MAX_FOLDERS:
            below.clear()


def _single_files(folder: Path, files: list[str]) -> Iterator[tuple[Path, SaeFormat]]:
    for name in files:
        path = folder / name
        known = _format_of(path) if path.suffix in _SINGLE_FILES else None
        if known is not None:
            yield path, known


def _format_of(path: Path) -> SaeFormat | None:
    return next((known for known in FORMATS if known.recognises(path)), None)


def _natural_order(text: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _check_fit(sae: SaeCard, model: LanguageModel) -> None:
    _check_width(sae, model, sae.site, sae.d_in)
    if sae.site_out:
        _check_width(sae, model, sae.site_out, sae.d_out or sae.d_in)


def _check_width(sae: SaeCard, model: LanguageModel, name: str, width: int) -> None:
    site, card = parse_site(name), model.card
    if isinstance(site, Site) and site.layer >= card.n_layers:
        raise SaeMismatch(
            f"The SAE in {sae.source} reads block {site.layer}; {card.name} has "
            f"{card.n_layers} blocks, 0 to {card.n_layers - 1}. "
            "Open the model that it was made for."
        )
    try:
        expected = site_width(model.anatomy, site)
    except SaeMismatch as error:
        raise SaeMismatch(f"The SAE in {sae.source} does not fit. {error}") from error
    if expected is not None and expected != width:
        raise SaeMismatch(
            f"The SAE in {sae.source} is for {name} of width {width}; that of {card.name} has "
            f"width {expected}. Open the model that it was made for."
        )
