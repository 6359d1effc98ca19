"""Turns filled patterns into text and spans: capitals, articles, what each word stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from microscope.specimen.text.concepts import WORD, fixed_concepts, topic_words
from microscope.specimen.text.document import Document, Span
from microscope.specimen.text.grammar import article

if TYPE_CHECKING:
    from microscope.specimen.text.topics import Topic

_ARTICLE = re.compile(r"\b([aA]) $")
_SENTENCE_END = re.compile(r"(?:[.?!] |Answer: )$")


@dataclass(frozen=True)
class Piece:
    """A stretch of a sentence; `is_marked` if it carries the sentence's concept."""

    text: str
    is_marked: bool = False


class Writer:
    """Collects the sentences of one document."""

    def __init__(self) -> None:
        self._text = ""
        self._spans: list[Span] = []
        self._passage_start: int | None = None
        self._lasting: dict[str, int] = {}
        self._topic: Topic | None = None

    def turn_to(self, topic: Topic) -> None:
        """End the passage on the present topic; what follows is about another one."""
        self._end_passage()
        self._topic = topic

    def write(
        self, pieces: list[Piece], concept: str = "", *, is_lasting: bool = False
    ) -> None:
        """Add a sentence; its marked pieces are words of `concept`.

        A lasting concept, such as the tone, is in force from its first word to the text's end,
        any other one to the sentence's end.
        """
        if self._text:
            self._text += " "
        first_marked = None
        for piece in pieces:
            start = self._append(piece.text)
            if piece.is_marked and concept:
                first_marked = start if first_marked is None else first_marked
                self._mark(start, concept)
            else:
                self._mark_known_words(start)
        if first_marked is not None and is_lasting:
            self._lasting.setdefault(concept, first_marked)
        elif first_marked is not None:
            self._spans.append(Span(first_marked, len(self._text), concept, "passage"))

    def document(self, kind: str) -> Document:
        """What has been written."""
        self._end_passage()
        self._spans += [
            Span(start, len(self._text), concept, "passage")
            for concept, start in self._lasting.items()
        ]
        return Document(self._text, tuple(sorted(set(self._spans))), kind)

    def _append(self, text: str) -> int:
        """Add text with the right capital and article; returns where it starts."""
        bare = _ARTICLE.search(self._text)
        if bare and article(text) == "an":
            self._text = f"{self._text[: bare.start()]}{bare[1]}n "
        if not self._text or _SENTENCE_END.search(self._text):
            text = text[:1].upper() + text[1:]
        start = len(self._text)
        self._text += text
        return start

    def _mark(self, start: int, concept: str) -> None:
        for word in WORD.finditer(self._text, start):
            self._spans.append(Span(*word.span(), concept))

    def _mark_known_words(self, start: int) -> None:
        topic = self._topic
        own = topic_words(topic.name) if topic else frozenset()
        for word in WORD.finditer(self._text, start):
            plain = word[0].lower()
            concepts = set(fixed_concepts().get(plain, ()))
            if topic and plain in own:
                concepts.add(topic.name)
                if self._passage_start is None:
                    self._passage_start = word.start()
            self._spans += [Span(*word.span(), concept) for concept in concepts]

    def _end_passage(self) -> None:
        if self._topic and self._passage_start is not None:
            self._spans.append(
                Span(self._passage_start, len(self._text), self._topic.name, "passage")
            )
        self._passage_start = None
