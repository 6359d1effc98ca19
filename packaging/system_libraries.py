"""What Qt needs from a Linux system: libraries that are in no wheel, and a font."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from debian_packages import has_apt, install_packages
from steps import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FONT_PACKAGE = "fonts-dejavu-core"
ALWAYS = {  # library: the package of Debian and Ubuntu that has it
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
}
ON_X11 = {
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
ON_WAYLAND = {
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
}
_FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path(os.path.expanduser("~/.local/share/fonts")),
    Path(os.path.expanduser("~/.fonts")),
)
_FONT_ENDINGS = {".ttf", ".otf", ".ttc"}


def needed_libraries(environ: Mapping[str, str]) -> dict[str, str]:
    """Libraries and their packages for the screen that the environment tells of, if any."""
    needed = dict(ALWAYS)
    if environ.get("DISPLAY"):
        needed.update(ON_X11)
    if environ.get("WAYLAND_DISPLAY"):
        needed.update(ON_WAYLAND)
    return needed


def can_load(library: str) -> bool:
    """Whether the system's loader finds the library and all that it needs itself."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def has_font() -> bool:
    """Whether there is a font file where fontconfig looks."""
    return any(
        file.suffix.lower() in _FONT_ENDINGS
        for folder in _FONT_FOLDERS
        for file in folder.rglob("*")
    )


def missing_parts(
    environ: Mapping[str, str],
    loads: Callable[[str], bool] = can_load,
    finds_font: Callable[[], bool] = has_font,
) -> dict[str, str]:
    """What Qt would miss here, each with its Debian package."""
    missing = {
        library: package
        for library, package in needed_libraries(environ).items()
        if not loads(library)
    }
    if not finds_font():
        missing["a font"] = FONT_PACKAGE
    return missing


def provide_system_libraries(environ: Mapping[str, str]) -> None:
    """Install what Qt misses, or say what to install and go on: it may do without."""
    if not sys.platform.startswith("linux"):
        return
    missing = missing_parts(environ)
    if not missing:
        return
    say(f"Qt needs from this system: {', '.join(missing)}")
    if not has_apt():
        say("Please install these with your system's package manager")
    elif install_packages(sorted(set(missing.values()))):
        still = missing_parts(environ)
        say(f"Still missing: {', '.join(still)}" if still else "Qt has what it needs")
