"""Where a command's JSON goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from microscope.storage.paths import write_atomically


def write_json(value: object, destination: str) -> None:
    """Write to a file, or to stdout for `-`.

    Raises:
        FileNotWritten: the file cannot be written.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    if destination == "-":
        sys.stdout.write(text)
    else:
        write_atomically(Path(destination), text.encode())
