"""`microscope library`: the models on this computer, without opening any."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from microscope.cli.output import write_json
from microscope.storage.fitting import in_words, judge
from microscope.storage.free_memory import free_memory
from microscope.storage.library import look
from microscope.storage.releases import load_releases
from microscope.storage.settings import load_settings

if TYPE_CHECKING:
    import argparse

    from microscope.core.library import FreeMemory, LocalModel


def run(options: argparse.Namespace) -> int:
    """List the models of the cache, of chosen folders and recent ones."""
    settings = load_settings()
    contents = look(
        (*settings.library_folders, *options.folders),
        settings.recent_models,
        load_releases().releases,
    )
    free = free_memory()
    if options.json:
        rows = [_row(model, free) for model in contents.models]
        write_json({"models": rows, "remarks": contents.remarks}, options.json)
    else:
        lines = [_line(model, free) for model in contents.models]
        sys.stdout.write("".join(lines) or "There are no models on this computer.\n")
    return 0


def _row(model: LocalModel, free: FreeMemory) -> dict[str, object]:
    verdict = None if model.problem else msgspec.to_builtins(judge(model, "auto", free))
    return {**msgspec.to_builtins(model), "verdict": verdict}


def _line(model: LocalModel, free: FreeMemory) -> str:
    if model.problem:
        return f"{model.name}: {model.problem}\n"
    size = f"{model.n_parameters / 1e6:,.0f}M parameters, {model.dtype}"
    on_disk = f"{in_words(model.size_bytes)} on disk"
    return f"{model.name}: {size}, {on_disk}. {judge(model, 'auto', free).sentence}\n"
