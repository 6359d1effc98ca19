"""What the names of an SAE's file and folders tell where no settings are beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from microscope.core.errors import SaeUnreadable

if TYPE_CHECKING:
    from pathlib import Path


_LAYER = re.compile(r"(?:^|[-_.])l(?:ayer)?[-_]?(\d{1,5})(?!\d)", re.ASCII)


def layer_in_names(path: Path) -> int:
    """The layer in names such as `...-SAE-l19.pth`. Raises `SaeUnreadable` if there is none."""
    return number_in_names(path, _LAYER, "which layer it reads (such as l19)")


def number_in_names(path: Path, pattern: re.Pattern[str], what: str) -> int:
    """The number that a pattern finds in the file's name or, nearest first, in its folders'.

    Links are followed too, since a download may be stored under another name.

    Raises:
        SaeUnreadable: none of the names has it.
    """
    for part in (*reversed(path.parts), *reversed(path.resolve().parts)):
        found = pattern.search(part)
        if found is not None:
            return int(found[1])
    raise SaeUnreadable(
        f"{path} does not say {what}: its name or that of a folder above has to, as it does "
        "where the SAE was published. Give it its published name again."
    )
