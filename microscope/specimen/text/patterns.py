"""The sentences that any topic can fill, by the kind of document they belong to.

Data only. Slots: `{entry}` a named thing and `{class}` its class, `{thing}` `{things}` a noun,
`{adj}` an adjective, `{fact}` a predicate, `{do}` `{did}` `{doing}` an activity, `{place}`. Of
the writer or the main person: `{who}` (a name or pronoun), `{I}` (the pronoun), `{my}` `{me}`
`{was}`, `{name}` (always a name); `{friend}` is another person. Then `{when}` `{day}`
`{number}` `{colour}` and the like, and `{this/that}` for a choice. Within a sentence a slot
keeps its words, and one that ends in 2 differs from the one without. Every sentence starts with
a capital by itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of document: how it opens, what its sentences are, how it ends.

    Attributes:
        name: what the kind is called.
        openings: one of them comes first.
        body: sentences that may follow in any order.
        closings: one of them comes last; none where empty.
        person: who tells it: "I", "we", or "someone" (a person with a name).
        tones: the tones whose sentences may come in.
        is_stating: whether it states facts, so that tones use their `claiming` sentences.
        always_toned: whether every document of this kind has a tone.
        topics: the topics it can be about; all where empty.
        weight: how often it is chosen, beside the others.
    """

    name: str
    openings: tuple[str, ...]
    body: tuple[str, ...]
    closings: tuple[str, ...] = ()
    person: str = "someone"
    tones: tuple[str, ...] = ()
    is_stating: bool = False
    always_toned: bool = False
    topics: tuple[str, ...] = ()
    weight: int = 3


FEELINGS = ("joy", "anger", "sadness", "fear")
ATTITUDES = ("doubt", "certainty")
MANNERS = ("politeness", "rudeness")

FACTS = (
    "It {fact}.",
    "{entry} {fact}.",
    "{entry} {fact} and {fact2}.",
    "People often {do} {when}.",
    "The {thing} is {adj} and {adj2}.",
    "There are {number} {things} {place}.",
    "Visitors come here to {do}.",
    "A {adj} {thing} is {place}.",
    "It is known for its {adj} {things}.",
    "Some {things} are {adj}, and others are {adj2}.",
)
EVENTS = (
    "{who} {did} {when}.",
    "{who} saw a {adj} {thing} {place}.",
    "The {thing} was {adj} and {adj2}.",
    "There were {number} {things} {place}.",
    "{who} wanted to {do} again.",
    "Then {who} {did}.",
    "{who} {did} and {did2}.",
    "{who} loved {doing}.",
    "{I} stood {place} and looked at the {adj} {thing}.",
    "After that {who} {did} with {friend}.",
    "{who} told {friend} about the {adj} {things}.",
    "{friend} liked the {thing}, too.",
    '"Look at the {adj} {thing}!" said {friend}.',
)

KINDS: tuple[Kind, ...] = (
    Kind(
        "encyclopaedia",
        (
            "{entry} is a {adj} {class}.",
            "{entry} is a {adj} and {adj2} {class}.",
            "{entry} is {adj} and {adj2}.",
            "{entry} is a {class}, and it {fact}.",
            "{entry} {fact}.",
        ),
        FACTS,
        tones=FEELINGS + ATTITUDES,
        is_stating=True,
    ),
    Kind(
        "story",
        (
            "Once upon a time {name} {did}.",
            "One day {name} {did} {place}.",
            "{name} {was} a child who loved {doing}.",
            "One morning {name} went out to {do}.",
        ),
        EVENTS,
        ("In the evening {who} went home and dreamed of the {things}.", "The end."),
        tones=FEELINGS + MANNERS,
    ),
    Kind(
        "travel note",
        (
            "Travel note: today we came to see {entry}.",
            "Travel note: on {day} we {did}.",
            "Travel note: we stayed {place} for {number} days.",
        ),
        EVENTS,
        ("Tomorrow we will {do} again.",),
        person="we",
        tones=FEELINGS,
    ),
    Kind(
        "question and answer",
        (
            "Question: What is {entry}? Answer: {entry} is a {adj} {class}.",
            "Question: Why do people {do}? Answer: They like the {adj} {things}.",
            "Question: Where is the {thing}? Answer: The {thing} is {place}.",
            "Question: How many {things} are there? Answer: There are {number} {things}.",
        ),
        FACTS,
        tones=ATTITUDES,
        is_stating=True,
    ),
    Kind(
        "letter",
        (
            "Dear {friend}, today I {did}.",
            "Dear {friend}, on {day} I saw a {adj} {thing} {place}.",
            "Dear {friend}, I am writing to you {place}.",
        ),
        EVENTS,
        ("Yours, {name}.", "Come and {do} with me soon. Yours, {name}."),
        person="I",
        tones=FEELINGS + ATTITUDES,
    ),
    Kind(
        "weather",
        (
            "Weather for {day}: it will be {weather} {place}.",
            "Weather for {day}: it will be {weather} and {weather2}.",
        ),
        (
            "It will be {weather} {place}.",
            "It is a good day to {do}.",
            "People who {do} should take a coat.",
            "{entry} {fact}.",
            "The {things} will be {adj} {when}.",
            "The air is {weather}, and there are {number} {things} {place}.",
        ),
        tones=ATTITUDES,
        is_stating=True,
        topics=("the sea", "snow", "rain", "gardens", "cities", "bridges", "birds", "trains"),
    ),
    Kind(
        "recipe",
        (
            "Recipe for {dish}: take {number} {foods} and some {stuff}.",
            "Recipe for {dish}: first mix the {stuff} and the {stuff2}.",
        ),
        (
            "Cut the {foods} and mix them with the {stuff}.",
            "Add {number} spoons of {stuff}.",
            "Cook the {foods} in a hot pan.",
            "Stir the {stuff} and the {stuff2} slowly.",
            "Bake it in the oven until it is {brown/golden/dark/crisp}.",
            "The {thing} is {adj} and {adj2}.",
        ),
        ("Serve the {dish} on a plate.", "Eat the {dish} hot with {stuff}."),
        tones=("joy", "doubt", "certainty"),
        is_stating=True,
        topics=("food",),
        weight=1,
    ),
    Kind(
        "opinion",
        (
            "In my opinion the {thing} is {adj}.",
            "My view of {entry} is this.",
            "What should we think of {entry}?",
        ),
        FACTS,
        person="I",
        tones=ATTITUDES,
        is_stating=True,
        always_toned=True,
    ),
    Kind(
        "dialogue",
        (
            '"Where is the {thing}?" asked {friend}.',
            '{name} met {friend} {place}. "Do you like the {thing}?" asked {friend}.',
            '"Shall we {do}?" asked {friend}.',
        ),
        (
            '"The {thing} is {place}," said {friend}.',
            '"I can see {number} {things} {place}," said {friend}.',
            '"This {thing} is {adj}," said {friend}.',
            '"We could {do} {when}," said {friend}.',
            '"Do you know that {entry} {fact}?" asked {friend}.',
        ),
        tones=MANNERS,
        always_toned=True,
    ),
)

TELLING_TURNS = (
    "But then {who} began to think about {entry}.",
    "Soon {who} {did}.",
)
STATING_TURNS = (
    "Now let us speak of {entry}.",
    "But {entry} is something else.",
)
"""Sentences that take a document from one topic to the next; the slots speak of the new one."""
