"""A file written by `torch.save`, read without running anything that is in it.

Only the zip form is read, by torch's weights-only unpickler and mapped into memory: it builds
tensors, numbers, texts and containers of them, and refuses everything else.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import archive
from microscope.engine.saes.named_tensors import NamedTensors, lack_of_memory_told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_MAX_PICKLE_BYTES = 1 << 22  # the tensors' numbers are not in the pickle
_FLOATS = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})
_PLAIN = (Tensor, torch.nn.Parameter)
_DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
)
"""What loading raises on files that are damaged or made to harm."""


class PickleFile(NamedTensors):
    """The dictionary in an open file; get one from `opened`."""

    def __init__(
        self,
        path: Path,
        contents: Mapping[object, object],
        device: torch.device,
        record_sizes: frozenset[int],
    ) -> None:
        self._record_sizes = record_sizes
        self._contents = {name: value for name, value in contents.items() if type(name) is str}
        self._tensors = {n: v for n, v in self._contents.items() if isinstance(v, Tensor)}
        super().__init__(path, self._tensors, device)

    def inside(self, name: str) -> PickleFile | None:
        """The dictionary that is stored under a name in this one; None if there is none."""
        value = self._contents.get(name)
        if not isinstance(value, dict):
            return None
        return PickleFile(self.path, value, self.device, self._record_sizes)

    def number(self, name: str) -> float | None:
        """A number, or a tensor of exactly one; None if there is none of that name."""
        value = self._contents.get(name)
        if isinstance(value, Tensor) and value.numel() == 1 and self._is_plain(value):
            value = value.item()
        return value if isinstance(value, int | float) else None

    def text(self, name: str) -> str | None:
        """A text; None if there is none of that name."""
        value = self._contents.get(name)
        return value if isinstance(value, str) else None

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def _check_dtype(self, name: str) -> None:
        tensor = self._tensors[name]
        if tensor.dtype not in _FLOATS:
            raise self._refuse_dtype(name, tensor.dtype)
        if not self._is_plain(tensor):
            raise SaeUnreadable(
                f"The tensor {name!r} in {self.path} claims more numbers than the file has, or "
                "is not a plain dense one, so it is not read."
            )

    def _tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()

    def _mapped(self, name: str) -> Tensor:
        return self._tensor(name)

    def _is_plain(self, tensor: Tensor) -> bool:
        """Whether it is an ordinary tensor, with a record in the file for all its numbers."""
        is_dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_dense or tensor.is_quantized or type(tensor) not in _PLAIN:
            return False
        n_bytes = tensor.untyped_storage().nbytes()
        n_needed = tensor.numel() * tensor.element_size()
        return n_bytes in self._record_sizes and n_bytes >= n_needed


@contextmanager
def opened(path: Path, device: torch.device) -> Iterator[PickleFile]:
    """Open a file that holds a dictionary of tensors for the `with` block.

    Raises:
        SaeUnreadable: it is in the old form, damaged, wants to run code, or holds no
            dictionary, or memory does not suffice.
    """
    with lack_of_memory_told(path, device):
        sizes = _record_sizes(path)
        yield PickleFile(path, _loaded(path), device, sizes)


def words_in(path: Path) -> frozenset[str]:
    """The texts in a file's pickle, names of tensors among them, without unpickling.

    Empty where the file cannot be read; opening it says why.
    """
    try:
        pickled = _pickle_of(path)
        return frozenset(
            word for _, word, _ in pickletools.genops(pickled) if isinstance(word, str)
        )
    except (SaeUnreadable, ValueError, IndexError):
        return frozenset()


def _loaded(path: Path) -> Mapping[object, object]:
    _pickle_of(path)  # only for its checks
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGE as error:
        raise SaeUnreadable(
            f"{path} cannot be read as tensors and plain values alone, so it is not opened: it "
            f"is damaged, or made to run code when it is loaded ({_first_line(error)})."
        ) from error
    if not isinstance(contents, dict):
        raise SaeUnreadable(f"{path} holds no dictionary of tensors.")
    return contents


def _pickle_of(path: Path) -> bytes:
    """The pickle inside the archive, as bytes. Raises `SaeUnreadable`."""
    inside = archive.members(path)
    name = next((name for name in inside if name.endswith("/data.pkl")), None)
    is_program = any(name.endswith("/constants.pkl") for name in inside)
    if name is None or is_program:
        raise SaeUnreadable(
            f"{path} is not a file of tensors written by torch.save"
            + (", but a TorchScript program." if is_program else ".")
        )
    return archive.content(path, name, _MAX_PICKLE_BYTES)


def _record_sizes(path: Path) -> frozenset[int]:
    """The sizes of what the tensors' numbers are stored in, in bytes."""
    inside = archive.members(path)
    records = [info for name, info in inside.items() if "/data/" in name]
    if any(info.compress_type != zipfile.ZIP_STORED for info in records):
        raise SaeUnreadable(
            f"{path} was compressed after torch.save wrote it, so its numbers cannot be read "
            "where they are. Load and save it again with torch."
        )
    return frozenset(info.file_size for info in records)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
