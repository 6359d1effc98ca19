"""Copies of mapped matrices on another device, as many as fit beside the model.

A matrix is moved when it is first needed there. Those that were not used for longest go
first, and so does the copy of a matrix that nobody holds any more.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_LIMIT_BYTES = 4 << 30
"""Where a device does not say how much memory it has free."""


class Residency:
    """Copies of matrices by device, the one used last at the end."""

    def __init__(self, limit_bytes: Callable[[torch.device, int], int]) -> None:
        self._limit_bytes = limit_bytes
        self._copies: OrderedDict[tuple[int, torch.device], Tensor] = OrderedDict()

    def on(self, matrix: Tensor, device: torch.device) -> Tensor:
        """The matrix on a device: itself where it is there, else a copy in its own dtype."""
        if matrix.device == device:
            return matrix
        key = (id(matrix), device)
        copy = self._copies.get(key)
        if copy is None:
            self._make_room(matrix.nbytes, device)
            copy = self._copies[key] = matrix.to(device)
            weakref.finalize(matrix, self._copies.pop, key, None)
        self._copies.move_to_end(key)
        return copy

    def held_bytes(self, device: torch.device) -> int:
        """What the copies on a device take."""
        return sum(copy.nbytes for (_, place), copy in self._copies.items() if place == device)

    def _make_room(self, n_bytes: int, device: torch.device) -> None:
        """Let the oldest copies on a device go until one more fits, or none is left."""
        room = self._limit_bytes(device, self.held_bytes(device)) - n_bytes
        for key in [key for key in self._copies if key[1] == device]:
            if self.held_bytes(device) <= room:
                return
            del self._copies[key]


def limit_bytes(device: torch.device, held_bytes: int) -> int:
    """What all copies on a device may take: half of what would be free without them."""
    if device.type != "cuda":
        return _LIMIT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free + reusable + held_bytes) // 2


RESIDENT = Residency(limit_bytes)
"""The copies of this process."""
