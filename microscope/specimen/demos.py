"""Finds demonstrations by measuring which held features change the text and keep it text.

A concept has taken over when its words make up much more of the text than without the clamp. A
text is readable when runs of three words in it are known from the training text about as often
as in text written without a clamp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microscope.specimen.steering import Hold, write
from microscope.specimen.text.concepts import WORD, all_concepts, words_of
from microscope.storage.shelf import DemoRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from microscope.core.pages import FeaturePage
    from microscope.specimen.recipe import DemoRecipe
    from microscope.specimen.saes import Sae

_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
PROMPTS = ("The Golden Gate Bridge is", "Dear Anna, today I", "One day Tom")
LEAST_READABLE = 0.85
"""The share of the unclamped text's known runs that a steered text must keep."""
LEAST_RISE = 0.06
"""How much larger the concept's share of all words must become."""


@dataclass(frozen=True)
class Trial:
    """A held feature and what it did: the concept's share of words, and how readable it is.

    The share before is the largest of several texts, the share after is the smallest, so that
    what is shown does not hang on a lucky draw. `readable` is the share of known runs, as a
    share of that without the clamp.
    """

    prompt: str
    page: FeaturePage
    concept: str
    strength: float
    share_before: float
    share: float
    readable: float

    @property
    def score(self) -> float:
        """What counts: words of the concept, as far as the text stays text."""
        return (self.share - self.share_before) * min(1.0, self.readable)

    @property
    def is_good(self) -> bool:
        """Whether it is worth showing."""
        has_risen = self.share - self.share_before >= LEAST_RISE
        return has_risen and self.readable >= LEAST_READABLE

    def row(self) -> DemoRow:
        """The demonstration as it is written to a file."""
        maximum = self.page.max_activation
        return DemoRow(
            prompt=self.prompt,
            sae=self.page.feature.sae,
            index=self.page.feature.index,
            value=round(self.strength * maximum, 3),
            label=self.page.label,
            max=round(maximum, 3),
            note=f"Words of “{self.concept}” rise from at most {self.share_before:.0%} of the "
            f"text to at least {self.share:.0%}.",
        )


class KnownRuns:
    """The runs of three words that the training text has."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._runs = {run for text in texts for run in _runs(text)}

    def share(self, texts: Iterable[str]) -> float:
        """The share of the runs in some texts that are known; 0 without a run."""
        runs = [run for text in texts for run in _runs(text)]
        return sum(run in self._runs for run in runs) / max(1, len(runs))


def concept_share(text: str, concept: str) -> float:
    """The share of a text's words that belong to a concept."""
    own = words_of(concept)
    found = [word.lower() for word in WORD.findall(text)]
    return sum(word in own for word in found) / max(1, len(found))


class DemoSearch:
    """Tries features of SAEs on a model; what is known of the training text is counted once."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        known: KnownRuns,
        recipe: DemoRecipe,
        seed: int,
    ) -> None:
        self._model, self._tokenizer, self._known = model, tokenizer, known
        self._recipe, self._seed = recipe, seed

    def trials(
        self, prompt: str, layer: int, sae: Sae, pages: Sequence[FeaturePage]
    ) -> list[Trial]:
        """Every candidate feature at every strength, on one prompt."""
        tried = [
            (concept, page, strength)
            for concept, page in candidates(pages)
            for strength in self._recipe.strengths
        ]
        holds = [
            Hold(page.feature.index, strength * page.max_activation)
            for _, page, strength in tried
        ]
        before, *after = self._texts(prompt, layer, sae, [None, *holds])
        readable = self._known.share(before) or 1.0
        return [
            Trial(
                prompt,
                page,
                concept,
                strength,
                max(concept_share(text, concept) for text in before),
                min(concept_share(text, concept) for text in texts),
                self._known.share(texts) / readable,
            )
            for (concept, page, strength), texts in zip(tried, after, strict=True)
        ]

    def _texts(
        self, prompt: str, layer: int, sae: Sae, holds: Sequence[Hold | None]
    ) -> list[list[str]]:
        """Several texts for each hold."""
        recipe = self._recipe
        written = write(
            self._model,
            self._tokenizer,
            prompt,
            sae,
            layer,
            holds,
            n_texts=recipe.n_texts,
            n_new_tokens=recipe.n_new_tokens,
            seed=self._seed,
        )
        return [
            written[start : start + recipe.n_texts]
            for start in range(0, len(written), recipe.n_texts)
        ]


def candidates(pages: Sequence[FeaturePage]) -> list[tuple[str, FeaturePage]]:
    """For every label that is a concept, the feature with the best score."""
    concepts = set(all_concepts())
    best: dict[str, FeaturePage] = {}
    for page in sorted(pages, key=lambda page: page.label_score or 0.0):
        if page.label.removeprefix("about ") in concepts and page.max_activation > 0:
            best[page.label] = page
    return [(label.removeprefix("about "), page) for label, page in best.items()]


def best_demos(trials: Iterable[Trial], n_wanted: int) -> list[DemoRow]:
    """The best good trial of each concept, best first."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.score):
        if trial.is_good:
            best[trial.concept] = trial
    chosen = sorted(best.values(), key=lambda trial: -trial.score)
    return [trial.row() for trial in chosen[:n_wanted]]


def _runs(text: str) -> list[tuple[str, str, str]]:
    """Runs of three words or punctuation marks, in lower case."""
    words = [word.lower() for word in _WORD_OR_MARK.findall(text)]
    return list(zip(words, words[1:], words[2:], strict=False))
