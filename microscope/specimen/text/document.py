"""What the generator makes: a text, and where in it which concept is present."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["word", "passage"]


@dataclass(frozen=True, order=True)
class Span:
    """Characters `start` to `end` (not included) of a text, where a concept is present.

    A word span is a word of the concept. A passage span runs from the first such word to the
    end of what is said of it, function words and all.
    """

    start: int
    end: int
    concept: str
    scope: Scope = "word"

    @property
    def label(self) -> str:
        """The concept as a feature's label names it."""
        return self.concept if self.scope == "word" else f"about {self.concept}"


@dataclass(frozen=True)
class Document:
    """A short text with the concepts in it."""

    text: str
    spans: tuple[Span, ...]
    kind: str = ""
