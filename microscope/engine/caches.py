"""Shortening a cache of keys and values, where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from microscope.engine.recurrence import RecurrentState

    Past = DynamicCache | RecurrentState


def can_crop(cache: Past) -> TypeGuard[DynamicCache]:
    """Whether tokens can be taken off a cache's end; a recurrent state cannot go back."""
    return type(cache) is DynamicCache


def crop(cache: DynamicCache, n_tokens: int) -> None:
    """Keep the first `n_tokens` tokens in every layer, however many each of them holds."""
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer):
            continue
        surplus = layer.get_seq_length() - n_tokens
        if surplus > 0:
            layer.crop(-surplus)
