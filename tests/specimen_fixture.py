"""A tiny specimen for any test that needs real text, features and pages.

Wrap `tiny_specimen_folder` in a session fixture of your own; whoever asks first builds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.specimen.build import build
from microscope.specimen.recipe import TINY

if TYPE_CHECKING:
    from pathlib import Path


def tiny_specimen_folder(cache_dir: Path) -> Path:
    """The folder of a TINY specimen inside `cache_dir`, built if it is not there yet."""
    folder = cache_dir / "tiny-specimen"
    if not folder.is_dir():
        build(TINY, folder, lambda _text, _done, _total: None)
    return folder
