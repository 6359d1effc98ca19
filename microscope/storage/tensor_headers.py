"""Reads the headers of safetensors files: names, dtypes and shapes, and no weights.

Format: 8 bytes little-endian length, that many bytes of JSON, then the tensors.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

import msgspec

from microscope.core.errors import ModelUnreadable

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

MAX_HEADER_BYTES = 100_000_000
"""The limit that the safetensors library itself sets."""

DTYPE_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I8": "int8",
    "U8": "uint8",
    "F8_E4M3": "float8",
    "F8_E5M2": "float8",
}

_Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]


class TensorHeader(msgspec.Struct, frozen=True):
    """One tensor: its dtype as the file spells it, its shape, and where its bytes are."""

    dtype: str
    shape: tuple[_Natural, ...]
    data_offsets: tuple[_Natural, _Natural]

    @property
    def n_numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a file by name.

    Raises:
        ModelUnreadable: the file is missing, cut short, or not a safetensors file.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            text = _header_text(file, size_bytes)
        plain = json.loads(text)
        if not isinstance(plain, dict):
            raise TypeError("its header is no JSON object")
        plain.pop("__metadata__", None)
        headers = msgspec.convert(plain, dict[str, TensorHeader])
        _check_length(headers, size_bytes - 8 - len(text))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelUnreadable(
            f"{path} is damaged or cut short ({error}). Download or copy it again."
        ) from error
    return headers


def _header_text(file: BinaryIO, size_bytes: int) -> bytes:
    """The JSON of a header, no longer than the file itself can hold."""
    n_bytes = int.from_bytes(file.read(8), "little")
    if not 2 <= n_bytes <= min(size_bytes - 8, MAX_HEADER_BYTES):
        raise ValueError("its header has not the length that it claims")
    return file.read(n_bytes)


def _check_length(headers: dict[str, TensorHeader], n_bytes: int) -> None:
    end = max((header.data_offsets[1] for header in headers.values()), default=0)
    if end != n_bytes:
        raise ValueError(f"its tensors take {end} bytes, and there are {n_bytes}")
