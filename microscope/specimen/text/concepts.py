"""Which words stand for which concept, worked out from the data modules."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from microscope.specimen.text.grammar import gerund, past, plural
from microscope.specimen.text.scenes import SCENES
from microscope.specimen.text.tones import TONES, Tone
from microscope.specimen.text.topics import TOPICS, Topic
from microscope.specimen.text.words import COMMON, LEXICON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORD = re.compile(r"[A-Za-z]+")
MARKED = re.compile(r"\[([^\]]*)\]")


def all_concepts() -> tuple[str, ...]:
    """Every concept the generator can mark, each once."""
    names = [topic.name for topic in TOPICS]
    names += [tone.name for tone in TONES]
    names += [scene.concept for scene in SCENES]
    return tuple(dict.fromkeys([*names, *LEXICON]))


@cache
def topic_words(name: str) -> frozenset[str]:
    """The content words of a topic, in every form that the patterns use, in lower case."""
    topic = next(topic for topic in TOPICS if topic.name == name)
    words = {word.lower() for phrase in _phrases(topic) for word in WORD.findall(phrase)}
    return frozenset(words - COMMON)


def _phrases(topic: Topic) -> Iterator[str]:
    for name, kind in topic.entries:
        yield from (name, kind)
    for noun in topic.nouns:
        yield from (noun, plural(noun))
    for activity in topic.activities:
        yield from (activity, past(activity), gerund(activity))
    yield from (*topic.adjectives, *topic.facts, *topic.places)


@cache
def fixed_concepts() -> Mapping[str, frozenset[str]]:
    """The concepts of words that mean the same in every document.

    A word that only one topic uses stands for that topic; a word of the lexicon for its entry.
    """
    found: dict[str, set[str]] = {}
    for topic in TOPICS:
        for word in topic_words(topic.name):
            found.setdefault(word, set()).add(topic.name)
    own = {word: names for word, names in found.items() if len(names) == 1}
    for concept, words in LEXICON.items():
        for word in words:
            own.setdefault(word.lower(), set()).add(concept)
    return {word: frozenset(names) for word, names in own.items()}


@cache
def words_of(concept: str) -> frozenset[str]:
    """Every word that can stand for a concept, in lower case; common words left out."""
    words = {word for word, concepts in fixed_concepts().items() if concept in concepts}
    if any(topic.name == concept for topic in TOPICS):
        words |= topic_words(concept)
    patterns = [line for tone in TONES if tone.name == concept for line in _lines(tone)]
    patterns += [
        line for scene in SCENES if scene.concept == concept for line in scene.patterns
    ]
    marked = " ".join(part for line in patterns for part in MARKED.findall(line))
    return frozenset(words | ({word.lower() for word in WORD.findall(marked)} - COMMON))


def _lines(tone: Tone) -> tuple[str, ...]:
    return (*tone.telling, *tone.claiming)
