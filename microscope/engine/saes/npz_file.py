"""An `.npz` archive of numpy arrays, read with suspicion.

Arrays are looked at through their headers first, so that nothing is read that does not have
the size that its header and the archive agree on. No pickled object is ever loaded.
"""

from __future__ import annotations

import math
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
_Header = tuple[tuple[int, ...], bool, np.dtype]
"""Shape, whether columns come first, and dtype."""


class NpzFile(NamedTensors):
    """An open `.npz` file; get one from `opened`."""

    def __init__(self, path: Path, opened_zip: zipfile.ZipFile, device: torch.device) -> None:
        self._zip = opened_zip
        self._device = device
        super().__init__(path, array_names(path))
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
        _, columns_first, dtype = self._headers[name]
        flat = np.empty(math.prod(self._shape(name)), dtype)
        with _damage_told(self.path, name), self._zip.open(name + _SUFFIX) as stream:
            _read_header(stream)
            _fill(flat, stream)
        array = flat.reshape(self._shape(name), order="F" if columns_first else "C")
        native = array.astype(dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(native).to(self._device)


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
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"arrays of version {version} are not known here")


def _fill(flat: np.ndarray, stream: IO[bytes]) -> None:
    """Read an array's bytes straight into its memory."""
    rest = flat.data.cast("B")
    while len(rest):
        n_read = stream.readinto(rest)  # type: ignore[attr-defined]
        if not n_read:
            raise EOFError("it ends too early")
        rest = rest[n_read:]


def _n_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The size of an array's numbers; -1, which no size equals, for a negative side."""
    return -1 if min(shape, default=0) < 0 else dtype.itemsize * math.prod(shape)
