"""The settings of a build: how much text, how large a model, how many features.

A larger specimen is a larger recipe for the same pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelRecipe:
    """The model and its training; what `lessons.py` does is set by the last six.

    Attributes:
        rows_per_batch: how many documents make a step.
        initial_std: of the random start.
        placed_share: of the dimensions of word vectors, those that start from word counts.
        placed_std: of these dimensions.
        outlook_layer: the block after which the words to come are asked for.
        outlook_weight: of that question in the loss.
        amplified_layers: the blocks after which a text's topic may be made stronger.
        most_amplified: by how much at most.
        amplified_rows: the share of rows that are.
        amplified_from: the share of the steps that are left alone at first.
    """

    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    d_mlp: int = 352
    context_length: int = 256
    n_vocabulary: int = 2000
    rows_per_batch: int = 8
    n_steps: int = 600
    learning_rate: float = 4e-3
    initial_std: float = 0.04
    placed_share: float = 0.5
    placed_std: float = 0.16
    outlook_layer: int = 1
    outlook_weight: float = 0.5
    amplified_layers: tuple[int, ...] = (1, 2)
    most_amplified: float = 2.0
    amplified_rows: float = 0.35
    amplified_from: float = 0.4


@dataclass(frozen=True)
class SaeRecipe:
    """The SAEs, one after every block, and their training. `k` is the L0 aimed at."""

    n_features: int = 384
    k: int = 12
    n_tokens: int = 40_000
    tokens_per_batch: int = 512
    n_steps: int = 320
    learning_rate: float = 5e-3


@dataclass(frozen=True)
class DemoRecipe:
    """The search for demonstrations.

    Attributes:
        n_wanted: how many at most.
        n_texts: how many texts are written for each thing that is tried.
        n_new_tokens: of each text.
        layers: the sites whose features are tried.
        strengths: in units of a feature's maximum.
        least_rise: by how much the concept's share of all words must rise.
        least_readable: the share of its known runs of words that the text must keep.
    """

    n_wanted: int = 12
    n_texts: int = 3
    n_new_tokens: int = 24
    layers: tuple[int, ...] = (1, 2)
    strengths: tuple[float, ...] = (1.0, 2.0, 3.0)
    least_rise: float = 0.12
    least_readable: float = 0.8


@dataclass(frozen=True)
class Recipe:
    """All settings of a build."""

    name: str
    seed: int = 1
    n_documents: int = 5000
    n_held_out: int = 300
    model: ModelRecipe = field(default_factory=ModelRecipe)
    saes: SaeRecipe = field(default_factory=SaeRecipe)
    demos: DemoRecipe = field(default_factory=DemoRecipe)


STAND_IN = Recipe("stand-in")
"""What a first start makes for itself: about a minute on one CPU core."""

TINY = Recipe(
    "tiny",
    n_documents=600,
    n_held_out=60,
    model=ModelRecipe(
        d_model=48,
        n_layers=2,
        d_mlp=96,
        n_vocabulary=900,
        n_steps=110,
        learning_rate=8e-3,
        outlook_layer=0,
        amplified_layers=(0,),
    ),
    saes=SaeRecipe(n_features=128, k=8, n_tokens=6000, n_steps=100),
    demos=DemoRecipe(
        n_texts=1,
        n_new_tokens=16,
        layers=(1,),
        strengths=(2.0,),
        least_rise=0.02,
        least_readable=0.0,
    ),
)
"""For tests: every step of the pipeline in a few seconds; the text is poor."""
