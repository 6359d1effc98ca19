"""A safetensors file read with suspicion."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.named_tensors import NamedTensors, lack_of_memory_told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from torch import Tensor

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


class TensorFile(NamedTensors):
    """An open safetensors file; get one from `opened`."""

    def __init__(self, path: Path, tensors: Any, device: torch.device) -> None:
        super().__init__(path, tensors.keys(), device)
        self._tensors = tensors

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors.get_slice(name).get_shape())

    def _check_dtype(self, name: str) -> None:
        dtype = self._tensors.get_slice(name).get_dtype()
        if dtype not in _FLOATS:
            raise self._refuse_dtype(name, dtype)

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = self._tensors.get_tensor(name)  # maps the file
        return tensor

    def _mapped(self, name: str) -> Tensor:
        return self._tensor(name)


@contextmanager
def opened(path: Path, device: torch.device) -> Iterator[TensorFile]:
    """Open a safetensors file for the `with` block.

    Raises:
        SaeUnreadable: the file is missing, truncated, not a safetensors file, or too large.
    """
    try:
        with (
            lack_of_memory_told(path, device),
            safe_open(path, framework="pt") as tensors,
        ):
            yield TensorFile(path, tensors, device)
    except (SafetensorError, OSError) as error:
        raise SaeUnreadable(
            f"{path} is not a whole safetensors file ({error}). Copy or download it again."
        ) from error
