"""The settings of a build: how much text, how large a model, how many features.

A larger specimen is a larger recipe for the same pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelRecipe:
    """The model and its training. `rows_per_batch` documents make a step."""

    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    d_mlp: int = 352
    context_length: int = 256
    n_vocabulary: int = 2000
    rows_per_batch: int = 8
    n_steps: int = 800
    learning_rate: float = 4e-3
    initial_std: float = 0.04
    outlook_layer: int = 1
    outlook_weight: float = 0.5
    placed_share: float = 0.375
    placed_std: float = 0.08
    amplified_layers: tuple[int, ...] = (1, 2)
    most_amplified: float = 3.0


@dataclass(frozen=True)
class SaeRecipe:
    """The SAEs, one after every block, and their training. `k` is the L0 aimed at."""

    n_features: int = 512
    k: int = 16
    n_tokens: int = 60_000
    tokens_per_batch: int = 512
    n_steps: int = 500
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class DemoRecipe:
    """The search for demonstrations: how many features are tried, on how much text."""

    n_wanted: int = 12
    n_candidates: int = 24
    n_texts: int = 6
    n_new_tokens: int = 40
    strengths: tuple[float, ...] = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Recipe:
    """All settings of a build."""

    name: str
    seed: int = 1
    n_documents: int = 6400
    n_held_out: int = 300
    model: ModelRecipe = field(default_factory=ModelRecipe)
    saes: SaeRecipe = field(default_factory=SaeRecipe)
    demos: DemoRecipe = field(default_factory=DemoRecipe)
