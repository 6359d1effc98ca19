"""Fills the slots of a pattern: `{thing}`, `{did}`, `{who}` and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from microscope.specimen.text import words
from microscope.specimen.text.grammar import HE, SHE, WE, I, Pronouns, gerund, past, plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from microscope.specimen.text.topics import Topic


@dataclass(frozen=True)
class Cast:
    """Who a document is told by or about, and who else is in it."""

    name: str
    friend: str
    pronouns: Pronouns
    is_named: bool
    """Whether the text calls the main person by name now and then."""

    @classmethod
    def choose(cls, random: Random, person: str) -> Cast:
        """Choose people for a text that is told by "I" or "we" or about "someone"."""
        is_woman = random.random() < 0.5
        name = random.choice(words.WOMEN if is_woman else words.MEN)
        others = [other for other in words.WOMEN + words.MEN if other != name]
        pronouns = {"I": I, "we": WE}.get(person, SHE if is_woman else HE)
        return cls(name, random.choice(others), pronouns, person == "someone")


class Slots:
    """Gives each slot its words; within a sentence `{x}` stays and `{x2}` differs from it."""

    def __init__(self, random: Random, cast: Cast) -> None:
        self.topic: Topic | None = None
        self._random = random
        self._cast = cast
        self._filled: dict[str, str] = {}
        self._entry = ("", "")
        self._has_named = False
        self._fixed = {
            "I": cast.pronouns.subject,
            "my": cast.pronouns.possessive,
            "me": cast.pronouns.object,
            "was": cast.pronouns.was,
            "friend": cast.friend,
        }

    def turn_to(self, topic: Topic) -> None:
        """Speak of a topic, and of one of its named things, from now on."""
        self.topic = topic
        self._entry = self._random.choice(topic.entries)

    def new_sentence(self) -> None:
        """Forget which words the last sentence used."""
        self._filled = {}

    def fill(self, slot: str) -> str:
        """The words for a slot; `{this/that}` is a choice.

        Raises:
            KeyError: no slot has that name.
        """
        if "/" in slot:
            return self._random.choice(slot.split("/"))
        if slot in self._fixed:
            return self._fixed[slot]
        if slot == "who":
            return self._who()
        if slot not in self._filled:
            self._filled[slot] = self._choose(slot.rstrip("2"))
        return self._filled[slot]

    def _choose(self, name: str) -> str:
        if name in self._from_lists:
            return self._unused(self._from_lists[name])
        return self._from_topic[name](self)

    def _unused(self, choices: tuple[str, ...]) -> str:
        used = self._filled.values()
        fresh = [choice for choice in choices if choice not in used] or list(choices)
        return self._random.choice(fresh)

    def _of_topic(self, field: str) -> str:
        choices: tuple[str, ...] = getattr(self.topic, field)
        return self._unused(choices)

    def _name(self) -> str:
        self._has_named = True
        return self._cast.name

    def _who(self) -> str:
        if self._cast.is_named and (not self._has_named or self._random.random() < 0.4):
            return self._name()
        return self._cast.pronouns.subject

    _from_lists: ClassVar[dict[str, tuple[str, ...]]] = {
        "when": words.WHEN,
        "day": words.DAYS,
        "number": words.NUMBERS,
        "colour": words.COLOURS,
        "weather": words.WEATHER,
        "dish": words.DISHES,
        "foods": words.FOODS,
        "stuff": words.STUFF,
    }
    _from_topic: ClassVar[dict[str, Callable[[Slots], str]]] = {
        "name": _name,
        "entry": lambda self: self._entry[0],
        "class": lambda self: self._entry[1],
        "thing": lambda self: self._of_topic("nouns"),
        "things": lambda self: plural(self._of_topic("nouns")),
        "adj": lambda self: self._of_topic("adjectives"),
        "fact": lambda self: self._of_topic("facts"),
        "place": lambda self: self._of_topic("places"),
        "do": lambda self: self._of_topic("activities"),
        "did": lambda self: past(self._of_topic("activities")),
        "doing": lambda self: gerund(self._of_topic("activities")),
    }
