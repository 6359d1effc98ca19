"""Writes the documents: chooses kind, topic, tone and sentences, and fills their slots.

The same seed gives the same text, and each document depends on the seed and its number only,
so that any stretch of the corpus can be written by itself.
"""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

from microscope.specimen.text.patterns import (
    KINDS,
    STATING_TURNS,
    TELLING_TURNS,
    Kind,
)
from microscope.specimen.text.scenes import SCENES, Scene
from microscope.specimen.text.slots import Cast, Slots
from microscope.specimen.text.tones import TONES, Tone
from microscope.specimen.text.topics import TOPICS
from microscope.specimen.text.writer import Piece, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.specimen.text.document import Document

SCENE_SHARE = 0.15
TURN_SHARE = 0.25
TONED_SHARE = 0.6
TONE_SENTENCE_SHARE = 0.5

_PARTS = re.compile(r"\{([^}]*)\}|\[([^\]]*)\]|([^\[{]+)")
_TOPICS = {topic.name: topic for topic in TOPICS}
_TONES = {tone.name: tone for tone in TONES}


def documents(n: int, seed: int, first: int = 0) -> Iterator[Document]:
    """Write documents number `first` to `first + n - 1` of a seed's endless corpus."""
    for number in range(first, first + n):
        yield _Telling(Random(f"{seed}/{number}")).tell()


class _Telling:
    """One document in the making."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._writer = Writer()
        self._scene = random.choice(SCENES) if random.random() < SCENE_SHARE else None
        self._kind = self._choose_kind(self._scene)
        self._slots = Slots(random, Cast.choose(random, self._kind.person))
        self._tone = self._choose_tone()

    def tell(self) -> Document:
        """Write the document from opening to closing."""
        self._turn_to(self._scene.topic if self._scene else "")
        if self._scene:
            self._say(self._random.choice(self._scene.patterns), self._scene.concept)
        else:
            self._say(self._random.choice(self._kind.openings))
        self._tell_body(self._random.randint(2, 5))
        if self._random.random() < TURN_SHARE and len(self._kind.topics) != 1:
            self._turn_to("")
            turns = STATING_TURNS if self._kind.is_stating else TELLING_TURNS
            self._say(self._random.choice(turns))
            self._tell_body(self._random.randint(2, 4))
        if self._kind.closings and self._random.random() < 0.7:
            self._say(self._random.choice(self._kind.closings))
        return self._writer.document(self._kind.name)

    def _choose_kind(self, scene: Scene | None) -> Kind:
        if scene is None:
            return self._random.choices(KINDS, [kind.weight for kind in KINDS])[0]
        tells = any("{who}" in pattern for pattern in scene.patterns)
        wanted = ("story", "travel note", "letter") if tells else ("encyclopaedia", "opinion")
        return self._random.choice([kind for kind in KINDS if kind.name in wanted])

    def _choose_tone(self) -> Tone | None:
        kind = self._kind
        if not kind.tones or (not kind.always_toned and self._random.random() > TONED_SHARE):
            return None
        return _TONES[self._random.choice(kind.tones)]

    def _turn_to(self, name: str) -> None:
        present = self._slots.topic
        choices = self._kind.topics or tuple(_TOPICS)
        others = [other for other in choices if present is None or other != present.name]
        topic = _TOPICS[name or self._random.choice(others)]
        self._slots.turn_to(topic)
        self._writer.turn_to(topic)

    def _tell_body(self, n_sentences: int) -> None:
        plain = list(self._kind.body)
        toned = list(self._toned_sentences())
        self._random.shuffle(plain)
        self._random.shuffle(toned)
        for number in range(n_sentences):
            is_toned = self._random.random() < TONE_SENTENCE_SHARE or (
                self._kind.always_toned and number == 0
            )
            if toned and self._tone and is_toned:
                self._say(toned.pop(), self._tone.name, is_lasting=True)
            elif plain:
                self._say(plain.pop())

    def _toned_sentences(self) -> tuple[str, ...]:
        if self._tone is None:
            return ()
        return self._tone.claiming if self._kind.is_stating else self._tone.telling

    def _say(self, pattern: str, concept: str = "", *, is_lasting: bool = False) -> None:
        self._slots.new_sentence()
        pieces = [
            Piece(self._slots.fill(slot)) if slot else Piece(marked or plain, bool(marked))
            for slot, marked, plain in _PARTS.findall(pattern)
        ]
        self._writer.write(pieces, concept, is_lasting=is_lasting)
