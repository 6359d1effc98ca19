"""`microscope labels import`: labels of features from files, into a store of pages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from microscope.cli.output import write_json
from microscope.core.errors import FileNotWritten
from microscope.storage.feature_pages import FeaturePages
from microscope.storage.label_import import import_labels

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def run(options: argparse.Namespace) -> int:
    """Import, say on stderr what came in, write the JSON."""
    store: Path = options.store
    _make_folder(store.parent)
    with FeaturePages(store, is_writable=True) as pages:
        report = import_labels(options.path, options.sae, pages, options.features)
    sys.stderr.write(f"{report.summary}\n")
    facts: dict[str, object] = msgspec.to_builtins(report)
    write_json({**facts, "store": str(store), "summary": report.summary}, options.json)
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileNotWritten(
            f"The folder {folder} could not be made: {error.strerror or error}. Choose another "
            "place for the store."
        ) from error
