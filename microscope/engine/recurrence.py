"""What a network keeps of the tokens it has read: keys and values, or a recurrent state.

A state-space model (Mamba, RWKV) has a state of fixed size that every token changes. It cannot
go back, and it is led on by one token at a time.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_ARGUMENTS = ("past_key_values", "cache_params", "state")
"""What networks call the past, in their inputs and in their outputs."""


class RecurrentState:
    """The state of one batch of sequences; empty until the first tokens are read."""

    def __init__(self, network: PreTrainedModel) -> None:
        names = inspect.signature(network.forward).parameters
        self._argument = next(name for name in _ARGUMENTS if name in names)
        # RWKV makes its own state; the others fill this.
        is_made_here = self._argument != "state"
        self._past: Any = DynamicCache(config=network.config) if is_made_here else None
        self._has_begun = False

    def read_on(self, network: PreTrainedModel, ids: Tensor, **options: Any) -> Tensor:
        """Logits `(n_rows, n_kept, n_vocabulary)` of new tokens, which the state takes in."""
        pieces = torch.split(ids, 1, dim=1) if self._has_begun else (ids,)
        return torch.cat([self._read(network, piece, options) for piece in pieces], dim=1)

    def _read(self, network: PreTrainedModel, ids: Tensor, options: dict[str, Any]) -> Tensor:
        past = {self._argument: self._past}
        output = network(input_ids=ids, use_cache=True, **past, **options)
        self._past = getattr(output, self._argument)
        self._has_begun = True
        logits: Tensor = output.logits
        return logits


def is_recurrent(network: PreTrainedModel) -> bool:
    """Whether any of a network's layers keeps a state instead of keys and values."""
    names = inspect.signature(network.forward).parameters
    has_past = any(name in names for name in _ARGUMENTS)
    return has_past and (network._is_stateful or _ARGUMENTS[0] not in names)


def new_cache(network: PreTrainedModel) -> DynamicCache | RecurrentState:
    """An empty past.

    A cache of keys and values is made without the configuration: it keeps every position, in
    sliding-window models too. The window is then in the mask alone, the logits are the same,
    and the cache can be cropped at any length.
    """
    return RecurrentState(network) if is_recurrent(network) else DynamicCache()


def read_on(
    network: PreTrainedModel, ids: Tensor, cache: DynamicCache | RecurrentState, **options: Any
) -> Tensor:
    """Run new tokens `(n_rows, n_new)` after those in the cache, which grows by them.

    Returns the network's logits, `(n_rows, n_kept, n_vocabulary)`.
    """
    if isinstance(cache, RecurrentState):
        return cache.read_on(network, ids, **options)
    output = network(input_ids=ids, past_key_values=cache, use_cache=True, **options)
    logits: Tensor = output.logits
    return logits
