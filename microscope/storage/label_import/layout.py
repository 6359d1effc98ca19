"""What a layout of label files has to offer so that its records can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from microscope.storage.label_import.finds import Find
    from microscope.storage.label_import.values import Record


@dataclass(frozen=True)
class Layout:
    """One layout. `finds` raises `MalformedError` for values of the wrong kind."""

    name: str
    recognises: Callable[[Record], bool]
    """Whether a record is of this layout, by its keys alone."""
    finds: Callable[[Record], Iterator[Find]]
