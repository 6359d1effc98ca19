"""Finds demonstrations by measuring which held features change the text and keep it text.

A concept has taken over when its words make up much more of the text than without the clamp. A
text is readable when runs of three words in it are known from the training text about as often
as in text written without a clamp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from microscope.core.sites import Site, resid_post
from microscope.specimen.steering import Hold, write
from microscope.specimen.text.concepts import WORD, all_concepts, words_of
from microscope.storage.shelf import DemoRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from microscope.core.pages import FeaturePage
    from microscope.specimen.recipe import DemoRecipe
    from microscope.specimen.saes import Sae

_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
PROMPTS = ("The Golden Gate Bridge is", "Dear Anna, today I", "One day Tom")
FINALISTS = 6
"""How many trials of a concept are measured a second time."""


@dataclass(frozen=True)
class Trial:
    """A held feature and what it did: the concept's share of words, and how readable it is.

    Shares are means over several texts. `readable` is the share of known runs, as a share of
    that without the clamp.
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

    def is_good(self, recipe: DemoRecipe) -> bool:
        """Whether it is worth showing."""
        has_risen = self.share - self.share_before >= recipe.least_rise
        return has_risen and self.readable >= recipe.least_readable

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
            note=f"Words of “{self.concept}” rise from {self.share_before:.0%} to "
            f"{self.share:.0%} of the text.",
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


@dataclass(frozen=True)
class Try:
    """Something to try: a feature for a concept, and a strength in units of its maximum."""

    concept: str
    page: FeaturePage
    strength: float

    @property
    def value(self) -> float:
        """The value to hold the feature at."""
        return self.strength * self.page.max_activation


class DemoSearch:
    """Tries features of SAEs on a model; what is known of the training text is counted once."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        saes: dict[str, Sae],
        known: KnownRuns,
        recipe: DemoRecipe,
    ) -> None:
        self._model, self._tokenizer, self._saes = model, tokenizer, saes
        self._known, self._recipe = known, recipe

    def find(
        self,
        pages: dict[str, list[FeaturePage]],
        seed: int,
        on_step: Callable[[int, int], None],
    ) -> list[DemoRow]:
        """The best demonstrations, at most one for each concept, best first.

        Those that look good are measured a second time on other draws. Only these figures
        count: the best of many measurements flatters itself.
        """
        places = [
            (resid_post(layer), prompt) for layer in self._recipe.layers for prompt in PROMPTS
        ]
        first: list[Trial] = []
        for number, (site, prompt) in enumerate(places):
            first += self._trials(prompt, site, self._tries(pages[site]), seed)
            on_step(number + 1, len(places) + 1)
        second: list[Trial] = []
        kept = finalists(first, self._recipe)
        for site, prompt in places:
            tries = [
                Try(trial.concept, trial.page, trial.strength)
                for trial in kept
                if (trial.page.feature.sae, trial.prompt) == (site, prompt)
            ]
            second += self._trials(prompt, site, tries, seed + 1) if tries else []
        on_step(1, 1)
        return best_demos(second, self._recipe)

    def _tries(self, pages: Sequence[FeaturePage]) -> list[Try]:
        return [
            Try(concept, page, strength)
            for concept, page in candidates(pages)
            for strength in self._recipe.strengths
        ]

    def _trials(self, prompt: str, site: str, tries: Sequence[Try], seed: int) -> list[Trial]:
        """What each of some tries does to the text after one prompt."""
        holds = [Hold(each.page.feature.index, each.value) for each in tries]
        before, *after = self._texts(prompt, site, [None, *holds], seed)
        readable = self._known.share(before) or 1.0
        return [
            Trial(
                prompt,
                each.page,
                each.concept,
                each.strength,
                fmean(concept_share(text, each.concept) for text in before),
                fmean(concept_share(text, each.concept) for text in texts),
                self._known.share(texts) / readable,
            )
            for each, texts in zip(tries, after, strict=True)
        ]

    def _texts(
        self, prompt: str, site: str, holds: Sequence[Hold | None], seed: int
    ) -> list[list[str]]:
        """Several texts for each hold."""
        n_texts = self._recipe.n_texts
        written = write(
            self._model,
            self._tokenizer,
            prompt,
            self._saes[site],
            Site.parse(site).layer,
            holds,
            n_texts=n_texts,
            n_new_tokens=self._recipe.n_new_tokens,
            seed=seed,
        )
        return [written[start : start + n_texts] for start in range(0, len(written), n_texts)]


def candidates(pages: Sequence[FeaturePage]) -> list[tuple[str, FeaturePage]]:
    """For every label that is a concept, the feature with the best score."""
    concepts = set(all_concepts())
    best: dict[str, FeaturePage] = {}
    for page in sorted(pages, key=lambda page: page.label_score or 0.0):
        if page.label.removeprefix("about ") in concepts and page.max_activation > 0:
            best[page.label] = page
    return [(label.removeprefix("about "), page) for label, page in best.items()]


def finalists(trials: Iterable[Trial], recipe: DemoRecipe) -> list[Trial]:
    """The few best good trials of each concept."""
    found: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: -trial.score):
        if trial.is_good(recipe):
            found.setdefault(trial.concept, []).append(trial)
    return [trial for good in found.values() for trial in good[:FINALISTS]]


def best_demos(trials: Iterable[Trial], recipe: DemoRecipe) -> list[DemoRow]:
    """The best good trial of each concept, best first."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.score):
        if trial.is_good(recipe):
            best[trial.concept] = trial
    chosen = sorted(best.values(), key=lambda trial: -trial.score)
    return [trial.row() for trial in chosen[: recipe.n_wanted]]


def _runs(text: str) -> list[tuple[str, str, str]]:
    """Runs of three words or punctuation marks, in lower case."""
    words = [word.lower() for word in _WORD_OR_MARK.findall(text)]
    return list(zip(words, words[1:], words[2:], strict=False))
