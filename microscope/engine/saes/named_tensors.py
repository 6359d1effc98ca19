"""The tensors of a weights file by name, read with suspicion, whatever the kind of file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from microscope.core.errors import SaeUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torch import Tensor


_SMALL_BYTES = 1 << 22
"""What is no larger as float32 is not worth keeping its file open for."""
_MAPPED = (torch.float32, torch.bfloat16, torch.float16)


class NamedTensors(ABC):
    """An open file of tensors: names, shapes, dtypes and values are all checked."""

    def __init__(self, path: Path, names: Iterable[str], device: torch.device) -> None:
        self.path = path
        self.device = device
        self.names = frozenset(names)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def shape(self, name: str, n_dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor, none of its sides 0.

        Raises:
            SaeUnreadable: it is missing, empty or has another number of dimensions.
        """
        self._check_name(name)
        shape = self._shape(name)
        if len(shape) != n_dimensions or 0 in shape:
            raise SaeUnreadable(
                f"The tensor {name!r} in {self.path} has the shape {list(shape)}; it should "
                f"have {n_dimensions} dimensions, all above 0."
            )
        return shape

    def read(self, name: str, *shape: int) -> Tensor:
        """A copy of a tensor as float32, so that nothing depends on the file afterwards.

        Raises:
            SaeUnreadable: it is missing, of another shape, no float, or not finite.
        """
        self._check(name, shape)
        return self._finite(name, self._tensor(name).to(self.device, torch.float32, copy=True))

    def matrix(self, name: str, *shape: int) -> Tensor:
        """A tensor as the file holds it, mapped into memory: nothing of it is read yet.

        It is of float32, bfloat16 or float16, on the CPU, and nobody has looked whether its
        numbers are finite. A small one, or one that cannot be mapped, is read at once.

        Raises:
            SaeUnreadable: it is missing, of another shape or no float; when it is read, also
                that it is not finite.
        """
        self._check(name, shape)
        is_small = 4 * math.prod(shape) <= _SMALL_BYTES
        mapped = None if is_small else self._mapped(name)
        if mapped is None or mapped.dtype not in _MAPPED:
            return self.read(name, *shape)
        return mapped

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        self._check_name(name)
        found = self._shape(name)
        if found != shape:
            raise SaeUnreadable(
                f"The tensor {name!r} in {self.path} has the shape {list(found)}; the settings "
                f"beside it, or its other tensors, ask for {list(shape)}."
            )
        self._check_dtype(name)

    @abstractmethod
    def _shape(self, name: str) -> tuple[int, ...]:
        """The declared shape; nothing is read for it."""

    @abstractmethod
    def _check_dtype(self, name: str) -> None:
        """Raise `SaeUnreadable` unless the tensor holds floating-point numbers."""

    @abstractmethod
    def _tensor(self, name: str) -> Tensor:
        """The tensor; it may share memory with the file."""

    def _mapped(self, name: str) -> Tensor | None:
        """The tensor sharing memory with the file, on the CPU; None where it cannot."""
        return None

    def _check_name(self, name: str) -> None:
        if name not in self.names:
            raise SaeUnreadable(
                f"{self.path} has no tensor {name!r}; it holds {_some(self.names)}."
            )

    def _refuse_dtype(self, name: str, dtype: object) -> SaeUnreadable:
        return SaeUnreadable(
            f"The tensor {name!r} in {self.path} holds {dtype}, not floating-point numbers."
        )

    def _finite(self, name: str, tensor: Tensor) -> Tensor:
        smallest, largest = tensor.aminmax()  # both are NaN where one value is
        if not torch.isfinite(largest - smallest):
            raise SaeUnreadable(
                f"The tensor {name!r} in {self.path} has values that are not finite numbers; "
                "the file is damaged or its training diverged."
            )
        return tensor


@contextmanager
def lack_of_memory_told(path: Path, device: torch.device) -> Iterator[None]:
    """Turn a failed allocation inside the `with` block into `SaeUnreadable`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise SaeUnreadable(
            f"There is not enough memory on {device} for the SAE in {path}."
        ) from error


def _some(names: frozenset[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:8])
    return (shown or "none") + (", ..." if len(names) > 8 else "")


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; on the CPU torch says so in words only."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error)
