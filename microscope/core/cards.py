"""What is known of an open model or SAE: facts for the window, no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

SPECIMEN = "specimen"
"""What the bundled model is called wherever a model is named."""


class ModelCard(msgspec.Struct, frozen=True):
    """An open language model."""

    name: str
    source: str
    architecture: str
    n_layers: int
    d_model: int
    n_vocabulary: int
    context_length: int
    n_parameters: int
    dtype: str
    device: str
    has_chat_template: bool = False
    is_exact: bool = True
    """Whether the last lens row equalled the model's own output when it was loaded."""
    remark: str = ""
    """A sentence for the user when something about the model deserves a warning."""


class SaeCard(msgspec.Struct, frozen=True):
    """An open SAE. `name` is what clamps and readings call it; `site` is where it reads."""

    name: str
    source: str
    site: str
    architecture: str
    n_features: int
    d_in: int
    is_folded: bool = True
    """Whether decoder rows were scaled to length 1 (and activations to match)."""
    remark: str = ""
    site_out: str = ""
    """Where a transcoder's features write; empty where that is `site`, as in every SAE."""
    d_out: int = 0
    """The width of what is written there; 0 where it is `d_in`."""


_NUMBER_MARK = "#"


def unique_name(name: str, taken: Collection[str]) -> str:
    """`name` of an SAE, or `name#2`, `name#3`, ... when it is taken."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}{_NUMBER_MARK}{number}"
    return candidate


def own_name(name: str) -> str:
    """What an SAE is called when no other has its name."""
    return name.partition(_NUMBER_MARK)[0]
