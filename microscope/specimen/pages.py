"""Feature pages measured on held-out text: density, maximum, and the label with the best F1.

A label is a concept of the generator, a concept's passages ("about cats") or a single token.
It is chosen on one half of the text and its F1 is measured on the other half. Position 0 and
the end token count nowhere. Counts are added up pass by pass; no activation is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microscope.core.features import FeatureId
from microscope.core.pages import FeaturePage
from microscope.specimen.activations import streamed_residuals
from microscope.specimen.model import token_rows
from microscope.specimen.text.concepts import all_concepts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from microscope.specimen.saes import Sae
    from microscope.specimen.text import Document

LEAST_SCORE = 0.3
"""Below this F1 on the choosing half, a feature is left without a label."""
LABEL_SOURCE = "best F1 on held-out text"


def label_names() -> tuple[str, ...]:
    """Every concept label: each concept's words, then its passages."""
    concepts = all_concepts()
    return (*concepts, *(f"about {concept}" for concept in concepts))


def concept_flags(
    document: Document, offsets: Sequence[tuple[int, int]], names: Sequence[str]
) -> torch.Tensor:
    """Which labels hold for each token of a document, as 0 and 1: (n_tokens, n_labels).

    `offsets` are the characters of each token; leading spaces do not count as its own, and a
    token without characters (BOS) has no concept.
    """
    number = {name: place for place, name in enumerate(names)}
    flags = torch.zeros(len(offsets), len(names))
    starts = [_first_letter(document.text, start, end) for start, end in offsets]
    for span in document.spans:
        column = number.get(span.label)
        for row, (start, (_, end)) in enumerate(zip(starts, offsets, strict=True)):
            if column is not None and span.start < end and start < span.end and start < end:
                flags[row, column] = 1.0
    return flags


def _first_letter(text: str, start: int, end: int) -> int:
    while start < end - 1 and text[start].isspace():
        start += 1
    return start


@dataclass
class _Counts:
    """How often features, labels and both together were on, in one half of the text."""

    both: torch.Tensor  # (n_features, n_labels)
    feature: torch.Tensor  # (n_features,)
    label: torch.Tensor  # (n_labels,)
    n_tokens: int = 0

    @classmethod
    def empty(cls, n_features: int, n_labels: int) -> _Counts:
        zeros = torch.zeros
        return cls(zeros(n_features, n_labels), zeros(n_features), zeros(n_labels))

    def add(self, is_on: torch.Tensor, flags: torch.Tensor, ids: torch.Tensor) -> None:
        """Add tokens: (n_tokens, n_features) and (n_tokens, n_concepts) of 0 and 1, and ids.

        The labels are the concepts and, after them, the tokens of the vocabulary.
        """
        n_concepts = flags.shape[1]
        self.both[:, :n_concepts] += is_on.T @ flags
        self.both.index_add_(1, ids + n_concepts, is_on.T)
        self.label[:n_concepts] += flags.sum(0)
        self.label.index_add_(0, ids + n_concepts, torch.ones(len(ids)))
        self.feature += is_on.sum(0)
        self.n_tokens += len(is_on)

    def f1(self) -> torch.Tensor:
        """F1 = 2 |both| / (|feature| + |label|) of every pair: (n_features, n_labels)."""
        either = self.feature[:, None] + self.label
        return 2 * self.both / either.clamp_min(1)


class _Measurement:
    """What one SAE's features do on text, added up."""

    def __init__(self, n_features: int, n_labels: int) -> None:
        self.halves = (_Counts.empty(n_features, n_labels), _Counts.empty(n_features, n_labels))
        self.maximum = torch.zeros(n_features)

    def add(self, half: int, f: torch.Tensor, flags: torch.Tensor, ids: torch.Tensor) -> None:
        """Add a text's activations (n_tokens, n_features) with its concepts and token ids."""
        self.halves[half].add((f > 0).float(), flags, ids)
        if len(f):
            self.maximum = torch.maximum(self.maximum, f.amax(0))

    def pages(self, sae: str, names: Sequence[str]) -> list[FeaturePage]:
        """A page for every feature."""
        choosing, judging = (half.f1() for half in self.halves)
        best, column = choosing.max(1)
        n_tokens = max(1, sum(half.n_tokens for half in self.halves))
        density = (self.halves[0].feature + self.halves[1].feature) / n_tokens
        pages = []
        for index in range(len(best)):
            chosen = int(column[index])
            is_labelled = float(best[index]) >= LEAST_SCORE
            pages.append(
                FeaturePage(
                    FeatureId(sae, index),
                    label=names[chosen] if is_labelled else "",
                    label_score=round(float(judging[index, chosen]), 4)
                    if is_labelled
                    else None,
                    label_source=LABEL_SOURCE if is_labelled else "",
                    max_activation=float(self.maximum[index]),
                    density=float(density[index]),
                )
            )
        return pages


@torch.inference_mode()
def measure_pages(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    saes: dict[str, Sae],
    documents: Sequence[Document],
) -> dict[str, list[FeaturePage]]:
    """Pages for every feature of SAEs that stand in the order of the blocks."""
    names = label_names()
    words = _token_labels(tokenizer)
    rows = token_rows(tokenizer, [document.text for document in documents])
    flags = _all_flags(tokenizer, documents, names)
    n_labels = len(names) + len(words)
    measured = {
        sae: _Measurement(len(weights.w_dec), n_labels) for sae, weights in saes.items()
    }
    for numbers, residuals in streamed_residuals(model, rows):
        for place, number in enumerate(numbers):
            ids = torch.tensor(rows[number][1:-1])
            for layer, (name, sae) in enumerate(saes.items()):
                f = sae.encode(residuals[layer, place, 1 : len(ids) + 1])
                measured[name].add(number % 2, f, flags[number], ids)
    return {name: found.pages(name, (*names, *words)) for name, found in measured.items()}


def _token_labels(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Each token of the vocabulary as a label, in quotation marks."""
    return [f"“{str(tokenizer.decode([token])).strip()}”" for token in range(len(tokenizer))]


def _all_flags(
    tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document], names: Sequence[str]
) -> list[torch.Tensor]:
    """The concepts of each document's tokens, position 0 left out."""
    encoded = tokenizer([document.text for document in documents], return_offsets_mapping=True)
    return [
        concept_flags(document, offsets[1:], names)
        for document, offsets in zip(documents, encoded["offset_mapping"], strict=True)
    ]
