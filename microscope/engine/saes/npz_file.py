"""An `.npz` archive of numpy arrays, read with suspicion.

Arrays are looked at through their headers first, so that nothing is read that does not have
the size that its header and the archive agree on. No pickled object is ever loaded.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import tokenize
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import archive
from microscope.engine.saes.named_tensors import NamedTensors, lack_of_memory_told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

_SUFFIX = ".npy"
_MAPPABLE = {np.dtype("<f4"): torch.float32, np.dtype("<f2"): torch.float16}
_COPIED_AT_ONCE = 1 << 20
_LARGE_FILES = "/var/tmp"  # where there is one, what lies in it is not kept in memory
_Header = tuple[tuple[int, ...], bool, np.dtype]
"""Shape, whether columns come first, and dtype."""
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_NONSENSE = (tokenize.TokenError, SyntaxError, TypeError, RecursionError, MemoryError)
"""What numpy lets through when a header is no literal of Python."""


class NpzFile(NamedTensors):
    """An open `.npz` file; get one from `opened`."""

    def __init__(self, path: Path, opened_zip: zipfile.ZipFile, device: torch.device) -> None:
        self._zip = opened_zip
        super().__init__(path, array_names(path), device)
        self._headers = {name: self._header(name) for name in self.names}

    def _header(self, name: str) -> _Header:
        """The header of an array, checked against the size that it has in the archive."""
        info = self._zip.getinfo(name + _SUFFIX)
        with _damage_told(self.path, name), self._zip.open(info) as stream:
            header = _read_header(stream)
            start = stream.tell()
        shape, _, dtype = header
        if dtype.hasobject or info.file_size != start + _n_bytes(shape, dtype):
            raise SaeUnreadable(
                f"The array {name!r} in {self.path} has not the size that its header claims, "
                "or holds no plain numbers; it is not read."
            )
        return header

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._headers[name][0]

    def _check_dtype(self, name: str) -> None:
        dtype = self._headers[name][2]
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise self._refuse_dtype(name, dtype)

    def _tensor(self, name: str) -> Tensor:
        shape, columns_first, dtype = self._headers[name]
        flat = np.empty(math.prod(shape), dtype)
        rest = flat.data.cast("B")
        for piece in self._pieces(name):
            rest[: len(piece)] = piece
            rest = rest[len(piece) :]
        array = flat.reshape(shape, order="F" if columns_first else "C")
        return torch.from_numpy(array.astype(dtype.newbyteorder("="), copy=False))

    def _mapped(self, name: str) -> Tensor | None:
        """The array by way of a file of its own, which is gone when nobody uses it any more.

        Inside the archive it may be compressed, and numbers do not begin at a multiple of
        their size there, as they must to be used in place.
        """
        shape, columns_first, dtype = self._headers[name]
        if columns_first or dtype not in _MAPPABLE:
            return None
        memory = _own_file(self._pieces(name), _n_bytes(shape, dtype))
        if memory is None:
            return None
        return torch.frombuffer(memory, dtype=_MAPPABLE[dtype]).reshape(shape)

    def _pieces(self, name: str) -> Iterator[bytes]:
        """An array's numbers as they are stored, a piece at a time, exactly all of them."""
        shape, _, dtype = self._headers[name]
        left = _n_bytes(shape, dtype)
        with _damage_told(self.path, name), self._zip.open(name + _SUFFIX) as stream:
            _read_header(stream)
            while left:
                piece = stream.read(min(left, _COPIED_AT_ONCE))
                if not piece:
                    raise EOFError("it ends too early")
                left -= len(piece)
                yield piece


@contextmanager
def opened(path: Path, device: torch.device) -> Iterator[NpzFile]:
    """Open an `.npz` file for the `with` block.

    Raises:
        SaeUnreadable: it is damaged, or not what its headers claim, or memory does not suffice.
    """
    archive.members(path)
    with lack_of_memory_told(path, device), zipfile.ZipFile(path) as opened_zip:
        yield NpzFile(path, opened_zip, device)


def array_names(path: Path) -> frozenset[str]:
    """The names of the arrays in a file; none where it cannot be read."""
    inside = archive.names(path)
    return frozenset(name[: -len(_SUFFIX)] for name in inside if name.endswith(_SUFFIX))


@contextmanager
def _damage_told(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except archive.DAMAGE as error:
        raise SaeUnreadable(
            f"The array {name!r} in {path} is damaged ({error}). Copy or download the file "
            "again."
        ) from error


def _read_header(stream: IO[bytes]) -> _Header:
    """Read what stands before an array's numbers. Raises ValueError if it makes no sense."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"arrays of version {version} are not known here")
    try:
        return _READERS[version](stream)
    except _NONSENSE as error:
        raise ValueError("its header cannot be parsed") from error


def _own_file(pieces: Iterator[bytes], n_bytes: int) -> mmap.mmap | None:
    """A new file without a name, mapped; None where there is no room for one.

    It is written first and mapped then, so that only what is used of it takes memory.
    """
    folder = _LARGE_FILES if os.access(_LARGE_FILES, os.W_OK) else None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if shutil.disk_usage(folder or tempfile.gettempdir()).free < 2 * n_bytes:
                return None
            file.writelines(pieces)
            file.flush()
            return mmap.mmap(file.fileno(), n_bytes)
    except OSError:
        return None


def _n_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The size of an array's numbers; -1, which no size equals, for a negative side."""
    return -1 if min(shape, default=0) < 0 else dtype.itemsize * math.prod(shape)
