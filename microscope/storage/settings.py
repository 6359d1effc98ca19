"""What the program remembers from one start to the next, apart from the user's work."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from microscope.storage.paths import user_config, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_VERSION = 1
MAX_RECENT = 12

_log = logging.getLogger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The user's preferences; fields that this version does not know are dropped.

    `text_scale` multiplies the system's font size. `geometry` (place and size of the
    window) and `layout` (its panels) are Qt's own bytes. The recent sources are newest
    first. `library_folders` are where the user keeps models. While `offline`, no network is
    used.
    """

    version: Annotated[int, msgspec.Meta(ge=1)] = SETTINGS_VERSION
    theme: Literal["dark", "light"] = "dark"
    text_scale: Annotated[float, msgspec.Meta(ge=0.5, le=4.0)] = 1.0
    geometry: bytes | None = None
    layout: bytes | None = None
    recent_models: tuple[str, ...] = ()
    recent_saes: tuple[str, ...] = ()
    library_folders: tuple[str, ...] = ()
    offline: bool = True


class _Header(msgspec.Struct):
    """The part of the file that every version, also a later one, has."""

    version: int = SETTINGS_VERSION


def settings_file() -> Path:
    """Where the settings are kept; the file need not exist."""
    return user_config() / "settings.json"


def load_settings() -> Settings:
    """The saved settings; the defaults where there are none or none that can be read.

    A file that cannot be read is logged and put aside as `settings.json.broken`, so that
    the next save does not destroy what somebody may want to look at.
    """
    path = settings_file()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        _log.warning("%s cannot be read (%s); using the default settings", path, error)
        return Settings()
    try:
        return _parse(data)
    except (ValueError, RecursionError) as error:
        _put_aside(path, error)
        return Settings()


def save_settings(settings: Settings) -> None:
    """Write the settings. Raises `FileNotWritten`; the old ones then stay."""
    data = msgspec.json.format(msgspec.json.encode(settings), indent=2)
    write_atomically(settings_file(), data + b"\n")


def with_recent(recent: tuple[str, ...], source: str) -> tuple[str, ...]:
    """The list with `source` in front, once, and no longer than `MAX_RECENT`."""
    return (source, *(other for other in recent if other != source))[:MAX_RECENT]


def _parse(data: bytes) -> Settings:
    """Raises `ValueError` (of which msgspec's errors are kinds) or `RecursionError`."""
    version = msgspec.json.decode(data, type=_Header).version
    if version > SETTINGS_VERSION:
        raise ValueError(f"version {version} is newer than this program knows")
    return msgspec.json.decode(data, type=Settings)


def _put_aside(path: Path, error: Exception) -> None:
    kept = path.with_name(path.name + ".broken")
    try:
        path.replace(kept)
    except OSError as refusal:
        _log.warning("%s is broken (%s) and cannot be moved (%s)", path, error, refusal)
    else:
        _log.warning(
            "%s is broken (%s); using the default settings, kept it as %s", path, error, kept
        )
