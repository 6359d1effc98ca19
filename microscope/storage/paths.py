"""Where things are on this machine, and the one way to write a file.

Knows folders and bytes; what is in the files is for others. The user's folders are named
here and not made: whoever writes into one makes it.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import secrets
from pathlib import Path

import platformdirs

from microscope.core.errors import FileNotWritten, InstallationBroken

HOME_VARIABLE = "MICROSCOPE_HOME"
_APPLICATION = "microscope"


def resources() -> Path:
    """The folder of what ships with the program: icons, colour maps, the specimen.

    Raises:
        InstallationBroken: there is no such folder.
    """
    package = Path(str(importlib.resources.files("microscope")))
    return _first_folder(
        package / "resources",  # a wheel, or a frozen application
        package.parent / "resources",  # a checkout
    )


def _first_folder(*candidates: Path) -> Path:
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise InstallationBroken(
        f"The program's own files are missing: there is no folder {candidates[0]}. "
        "Install Microscope again."
    )


def user_data() -> Path:
    """What the user would miss: sessions, the model library, feature pages."""
    return _portable("data") or platformdirs.user_data_path(_APPLICATION, appauthor=False)


def user_cache() -> Path:
    """What can be made or fetched again."""
    return _portable("cache") or platformdirs.user_cache_path(_APPLICATION, appauthor=False)


def user_config() -> Path:
    """The settings."""
    return _portable("config") or platformdirs.user_config_path(_APPLICATION, appauthor=False)


def user_log() -> Path:
    """The log files."""
    return _portable("log") or platformdirs.user_log_path(_APPLICATION, appauthor=False)


def _portable(name: str) -> Path | None:
    """A folder below `MICROSCOPE_HOME`, where that is set: for a USB stick, and for tests."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser().absolute() / name if home else None


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all; folders on the way are made.

    A reader, a crash or a full disk meets the old file or the new one, never a part of
    one. A link is followed, and a file that is replaced keeps its permissions.

    Raises:
        FileNotWritten: the disk is full, the folder is read-only, `path` is a folder.
    """
    try:
        _replace(path.resolve(), data)
    except OSError as error:
        raise FileNotWritten(
            f"{path} could not be written: {error.strerror or error}. "
            "What was there before is unchanged. Make room, or choose another place."
        ) from error


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic within one file system only; opened with
    # "x", not by tempfile, so that the file gets the permissions the user's umask gives.
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            draft.chmod(path.stat().st_mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # nothing is left to remove after the rename
    _keep_the_name(path.parent)


def _keep_the_name(folder: Path) -> None:
    """Make the rename outlast a power cut; Windows and some network disks cannot be asked."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
