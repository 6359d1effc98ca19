"""The zip archive around `.npz` and `.pt` files: looked through before anything is read.

Knows sizes and names of what is inside; nothing is ever extracted to a file.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from microscope.core.errors import SaeUnreadable

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = frozenset({".npz", ".pt", ".pth"})
"""Files that have to be zip archives."""

_MAX_MEMBERS = 10_000
_MAX_INFLATION = 8
"""Weights hardly compress; what grows more than this is made to fill memory."""
_SMALL = 1 << 26  # bytes that may come out of however little
DAMAGE = (
    zipfile.BadZipFile,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What the zip module raises on damaged files."""


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """What is in an archive, by name.

    Raises:
        SaeUnreadable: it is no zip archive, or one that would grow beyond measure.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()
    except DAMAGE as error:
        raise SaeUnreadable(_no_archive(path, error)) from error
    _check_sizes(path, inside)
    return {info.filename: info for info in inside}


def names(path: Path) -> frozenset[str]:
    """The names in an archive; none where it cannot be read."""
    try:
        return frozenset(members(path))
    except SaeUnreadable:
        return frozenset()


def content(path: Path, name: str, max_bytes: int) -> bytes:
    """One small member of an archive, whole.

    Raises:
        SaeUnreadable: it is missing, damaged or larger than that.
    """
    info = members(path).get(name)
    if info is None or info.file_size > max_bytes:
        raise SaeUnreadable(
            f"{path} has no {name} of at most {max_bytes} bytes inside, as it should."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(info)
    except DAMAGE as error:
        raise SaeUnreadable(_no_archive(path, error)) from error


def _no_archive(path: Path, error: Exception) -> str:
    if path.suffix != ".npz" and isinstance(error, zipfile.BadZipFile):
        return (
            f"{path} is not a whole PyTorch file in the zip form that torch.save has written "
            "since version 1.6. Older files can run code when they are opened, so they are "
            "not; copy or download it again, or save it anew with torch.save."
        )
    return f"{path} is not a whole zip archive ({error}). Copy or download it again."


def _check_sizes(path: Path, inside: list[zipfile.ZipInfo]) -> None:
    size_bytes = path.stat().st_size
    inflated = sum(info.file_size for info in inside)
    if len(inside) > _MAX_MEMBERS or inflated > max(_SMALL, _MAX_INFLATION * size_bytes):
        raise SaeUnreadable(
            f"{path} has {size_bytes} bytes and claims to hold {inflated} in {len(inside)} "
            "parts. That is no file of weights, and it is not opened."
        )
