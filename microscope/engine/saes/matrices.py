"""Arithmetic with the large matrices of an SAE, which stay as their file holds them.

A matrix may be mapped from a file, of float32, bfloat16 or float16, and a view with its axes
swapped. Results are float32. What is not float32 is widened a block at a time, and only what
a function needs of a matrix is touched, so that the rest never leaves the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.engine.saes.residency import RESIDENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_BLOCK = 1 << 21
"""Numbers that are widened at a time: 8 MiB of float32."""

_SPARSE_BELOW = 32
"""With fewer than one feature in so many on, adding up rows beats a matrix product."""


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` on the device of `x`: float32 `(..., k)` times `(k, n)`."""
    near = RESIDENT.on(matrix, x.device)
    if near.dtype == torch.float32:
        return x @ near
    out = x.new_empty(*x.shape[:-1], near.shape[1])
    for columns in _blocks(near.shape[1], near.shape[0]):
        out[..., columns] = x @ near[:, columns].float()
    return out


def rows_of(matrix: Tensor, indices: Tensor) -> Tensor:
    """Some rows of a matrix, float32 and on the device of `indices`; no others are read."""
    return matrix[indices.to(matrix.device)].to(indices.device, torch.float32)


def columns_of(matrix: Tensor, indices: Tensor) -> Tensor:
    """Some columns of a matrix, float32 and on the device of `indices`.

    Where columns do not lie together in the file, reading one touches much of the matrix.
    """
    return matrix[:, indices.to(matrix.device)].to(indices.device, torch.float32)


def weighted_rows(amounts: Tensor, matrix: Tensor, scale: Tensor | None = None) -> Tensor:
    """`(amounts · scale) @ matrix`, reading only the rows in use where those are few.

    Args:
        amounts: float32 `(..., n)`.
        matrix: `(n, width)`.
        scale: float32 `(n,)`; None is 1.
    """
    near = RESIDENT.on(matrix, amounts.device)
    flat = amounts.reshape(-1, amounts.shape[-1])
    token, feature = flat.nonzero(as_tuple=True)
    if flat.is_mps or len(feature) * _SPARSE_BELOW > flat.numel():
        summed = _dense(flat if scale is None else flat * scale, near)
    else:
        values = flat[token, feature]
        values = values if scale is None else values * scale[feature]
        n_per_token = torch.bincount(token, minlength=len(flat))
        summed = _sparse(feature, values, n_per_token, near)
    return summed.reshape(*amounts.shape[:-1], matrix.shape[-1])


def row_lengths(matrix: Tensor, device: torch.device) -> Tensor:
    """The Euclidean length of every row, float32 `(n,)`; reads the matrix once, in blocks."""
    near = RESIDENT.on(matrix, device)
    if near.stride(-1) == 1:
        blocks = _blocks(len(near), near.shape[1])
        lengths = [torch.linalg.vector_norm(near[rows].float(), dim=-1) for rows in blocks]
        return torch.cat(lengths)
    squares = torch.zeros(len(near), dtype=torch.float64, device=device)
    for columns in _blocks(near.shape[1], len(near)):
        squares += near[:, columns].double().square().sum(dim=-1)
    return squares.sqrt().float()


def is_finite(matrix: Tensor) -> bool:
    """Whether no number of a matrix is infinite or NaN."""
    flat = matrix if matrix.stride(-1) == 1 else matrix.T
    for rows in _blocks(len(flat), flat[0].numel()):
        smallest, largest = flat[rows].aminmax()  # both are NaN where one value is
        if not bool(torch.isfinite(largest.float() - smallest.float())):
            return False
    return True


def _dense(amounts: Tensor, matrix: Tensor) -> Tensor:
    if matrix.dtype == torch.float32:
        return amounts @ matrix
    total = amounts.new_zeros(len(amounts), matrix.shape[1])
    for rows in _blocks(len(matrix), matrix.shape[1]):
        total += amounts[:, rows] @ matrix[rows].float()
    return total


def _sparse(feature: Tensor, values: Tensor, n_per_token: Tensor, matrix: Tensor) -> Tensor:
    """The sum of rows `feature` times `values`, the first `n_per_token[0]` of them, then..."""
    if matrix.dtype != torch.float32 or not matrix.is_contiguous():
        used, feature = torch.unique(feature, return_inverse=True)
        matrix = rows_of(matrix, used).contiguous()
    return torch.nn.functional.embedding_bag(
        feature,
        matrix,
        n_per_token.cumsum(0) - n_per_token,
        mode="sum",
        per_sample_weights=values,
    )


def _blocks(n: int, width: int) -> Iterator[slice]:
    """Stretches of `n` rows (or columns) with about `_BLOCK` numbers each."""
    n_at_once = max(1, _BLOCK // max(1, width))
    for start in range(0, n, n_at_once):
        yield slice(start, start + n_at_once)
