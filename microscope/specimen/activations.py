"""Reads, and for the search of demonstrations changes, the residual stream after each block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from microscope.specimen.model import padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import LlamaForCausalLM

    from microscope.specimen.model import Rows

ROWS_PER_PASS = 16


@contextmanager
def hooked(
    model: LlamaForCausalLM, layer: int, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """Within the block, `change` sees what leaves a layer and may return something else."""

    def hook(_module: torch.nn.Module, _args: Any, output: torch.Tensor) -> torch.Tensor | None:
        return change(output)

    handle = model.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def residuals_after_blocks(model: LlamaForCausalLM, ids: torch.Tensor) -> list[torch.Tensor]:
    """The residual stream after each block, each (n_rows, n_tokens, d_model)."""
    found: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(lambda _module, _args, output: found.append(output))
        for layer in model.model.layers
    ]
    try:
        model.model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def streamed_residuals(
    model: LlamaForCausalLM, rows: Rows
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """For each row in turn: its number and position of each token, and its residuals.

    Yields the row numbers of one pass, and (n_layers, n_rows, n_tokens, d_model); what stands
    to the right of a row's end is padding.
    """
    by_length = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    for start in range(0, len(by_length), ROWS_PER_PASS):
        numbers = by_length[start : start + ROWS_PER_PASS]
        ids, _ = padded([rows[number] for number in numbers])
        yield numbers, torch.stack(residuals_after_blocks(model, ids))


def collect_residuals(model: LlamaForCausalLM, rows: Rows, n_tokens: int) -> torch.Tensor:
    """Residuals of up to `n_tokens` tokens, position 0 left out: (n_layers, n, d_model)."""
    found: list[torch.Tensor] = []
    n_found = 0
    kept = []
    for row in rows:
        if n_found >= n_tokens:
            break
        kept.append(row)
        n_found += len(row) - 1
    for numbers, residuals in streamed_residuals(model, kept):
        found += [
            residuals[:, place, 1 : len(kept[number])] for place, number in enumerate(numbers)
        ]
    return torch.cat(found, dim=1)[:, :n_tokens]
