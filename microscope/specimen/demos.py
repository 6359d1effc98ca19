"""Finds demonstrations by measuring: which held features change the text most, and keep it text.

A concept has taken over when its words make up much more of the text than without the clamp. A
text is readable when runs of three words in it are known from the training text about as often
as in text written without a clamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from microscope.specimen.steering import Hold, write
from microscope.specimen.text.concepts import WORD, all_concepts, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from microscope.core.pages import FeaturePage
    from microscope.specimen.recipe import DemoRecipe
    from microscope.specimen.saes import Sae

PROMPTS = (
    "The Golden Gate Bridge is",
    "Dear Anna, today I",
    "One day Tom",
    "The apple is",
)
LEAST_READABLE = 0.8
"""The share of the unclamped text's known runs that a steered text must keep."""
LEAST_RISE = 0.06
"""How much larger the concept's share of all words must become."""


class Demo(msgspec.Struct, frozen=True):
    """A prompt and a clamp to show; `value` and `max` are in the SAE's activation units."""

    prompt: str
    sae: str
    index: int
    label: str
    value: float
    max: float
    note: str


@dataclass(frozen=True)
class Trial:
    """A demonstration with what was measured: the rise of the concept and the readability."""

    demo: Demo
    concept: str
    rise: float
    readable: float


class KnownRuns:
    """The runs of three words that the training text has."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs = {run for text in texts for run in _runs(text)}

    def share(self, texts: Iterable[str]) -> float:
        """The share of the runs in some texts that are known; 0 without a run."""
        runs = [run for text in texts for run in _runs(text)]
        return sum(run in self._runs for run in runs) / max(1, len(runs))


def concept_share(texts: Iterable[str], concept: str) -> float:
    """The share of all words that belong to a concept."""
    own = words_of(concept)
    found = [word.lower() for text in texts for word in WORD.findall(text)]
    return sum(word in own for word in found) / max(1, len(found))


def find_demos(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    saes: dict[str, Sae],
    pages: dict[str, list[FeaturePage]],
    known: KnownRuns,
    recipe: DemoRecipe,
    seed: int,
    on_step: Callable[[int, int], None],
) -> list[Demo]:
    """The best demonstrations, at most one for each concept and prompt, best first."""
    trials: list[Trial] = []
    n_steps = len(saes) * len(PROMPTS)
    for layer, (name, sae) in enumerate(saes.items()):
        for number, prompt in enumerate(PROMPTS):
            search = _Search(model, tokenizer, sae, layer, known, recipe, seed)
            trials += search.trials(prompt, _candidates(pages[name], sae, recipe.n_candidates))
            on_step(layer * len(PROMPTS) + number + 1, n_steps)
    return _best(trials, recipe.n_wanted)


def _candidates(
    pages: Sequence[FeaturePage], n_wanted: int
) -> list[tuple[str, FeaturePage]]:
    """Concepts with the features that may carry them, best labelled first."""
    found = []
    concepts = set(all_concepts())
    for page in sorted(pages, key=lambda page: -(page.label_score or 0.0)):
        concept = page.label.removeprefix("before ").removeprefix("about ")
        if concept in concepts:
            found.append((concept, page))
    return found[:n_wanted]
