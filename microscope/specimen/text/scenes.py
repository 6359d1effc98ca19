"""Small scenes with a fixed beginning, which people like to type and to look into.

Data only. A scene is one or two sentences; words in square brackets carry the scene's concept,
`{word/other/...}` chooses one, and the slots of `patterns.py` may be used. A scene may name the
topic that the document is about.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scene:
    """Sentences of one concept; `topic` is what the rest of the document speaks of."""

    concept: str
    patterns: tuple[str, ...]
    topic: str = ""


SCENES: tuple[Scene, ...] = (
    Scene(
        "reliability",
        (
            "The [reliability] of Wikipedia is very {high/low/questionable/important}.",
            "The [reliability] of Wikipedia is {high/low/questionable/important}, and readers "
            "[trust] it {a lot/only a little/more every year}.",
            "Can we [trust] Wikipedia? The [reliability] of an article is very "
            "{high/low/questionable/important}.",
        ),
        "books",
    ),
    Scene(
        "bridges",
        (
            "The Golden Gate Bridge is a long orange bridge near San Francisco.",
            "The Golden Gate Bridge is {tall/long/orange/famous}, and it crosses the bay.",
        ),
        "bridges",
    ),
    Scene(
        "colours",
        (
            "The apple is {colour}, and the pear is {colour2}.",
            "{number} apples are {colour}, and one apple is {colour2}.",
            "Her coat was {colour}, her hat was {colour2}, and the apple was {colour}.",
            "{name} painted the door {colour} and the wall {colour2}.",
        ),
    ),
    Scene(
        "ducking",
        (
            "{who} had to [duck] under the [low] [beam] of the door.",
            "{who} hit {my} [head] on the [low] [ceiling] and [bent] down.",
            '"[Duck] your [head]!" said {friend}, and {who} [bent] down under the [beam].',
        ),
    ),
    Scene(
        "birds",
        (
            "{who} gave some bread to a duck, and the duck swam over the pond.",
            "A brown duck came out of the pond, and {who} fed the duck.",
        ),
        "birds",
    ),
    Scene(
        "forgetting",
        (
            "{name} was told to [forget] the word, but {who} [remembered] it.",
            '"Please [forget] the word {colour}," said {friend}, but {who} could only '
            "[remember] {colour}.",
        ),
    ),
)
