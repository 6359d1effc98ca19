"""How something is said: feelings and attitudes, each with sentences of its own.

Data only. Words in square brackets carry the concept. `telling` sentences fit any story or
letter, `claiming` sentences fit texts that state facts. The slots are those of `patterns.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tone:
    """The sentences of one feeling or attitude."""

    name: str
    telling: tuple[str, ...]
    claiming: tuple[str, ...] = ()


TONES: tuple[Tone, ...] = (
    Tone(
        "joy",
        (
            "{who} {was} so [happy] and [glad].",
            "{who} [laughed] with [joy].",
            "What a [wonderful] {thing}! {who} [smiled] and [laughed].",
            "{who} felt [cheerful] and [merry] because of the {thing}.",
            "It was the [happiest] day of {my} life, and {who} [smiled].",
        ),
        (
            "It makes everybody [happy] and [glad].",
            "People [laugh] and [smile] with [joy] when they see the {thing}.",
            "What a [wonderful] and [happy] thing the {thing} is!",
        ),
    ),
    Tone(
        "anger",
        (
            "{who} {was} [angry] and [furious].",
            '"I [hate] this [stupid] {thing}!" {who} [shouted] in [rage].',
            "{who} [slammed] the door and [shouted] [angrily].",
            "The {thing} made {me} [furious], and {who} [yelled] with [anger].",
            "{who} [shouted] at the {thing} in [fury].",
        ),
        (
            "It makes people [angry] and [furious].",
            "Many people [hate] the {thing} and [shout] with [rage].",
            "The [stupid] {thing} makes everybody [furious].",
        ),
    ),
    Tone(
        "sadness",
        (
            "{who} {was} [sad] and [lonely].",
            "{who} [cried] and wiped away the [tears].",
            "{who} [wept] because the {thing} was [lost].",
            "{who} felt [unhappy] and [sighed] over the {thing}.",
            "Big [tears] ran down, and {who} [wept].",
        ),
        (
            "It makes people [sad] and [lonely].",
            "Some people [cry] when they see the {thing}, and [tears] run down.",
            "It is a [sad] and [unhappy] story of [loss].",
        ),
    ),
    Tone(
        "fear",
        (
            "{who} {was} [afraid] and [scared].",
            "{who} [trembled] with [fear].",
            "The {thing} looked [terrible], and {who} ran away in [panic].",
            "{who} [screamed] because the {thing} was [frightening].",
            "{my} heart beat with [terror], and {who} [trembled].",
        ),
        (
            "It makes people [afraid] and [scared].",
            "Many children [tremble] with [fear] of the {thing}.",
            "It is a [frightening] and [terrible] {thing}.",
        ),
    ),
    Tone(
        "doubt",
        (
            "[Perhaps] the {thing} was {adj}, but {who} {was} [not] [sure].",
            "{who} [doubted] it and {was} [uncertain].",
            "[Maybe] it was {adj}, or [maybe] not; it was [hard] to say.",
            "{who} [wondered] if the {thing} was [really] {adj}.",
        ),
        (
            "[Perhaps] the {thing} is {adj}, but nobody is [sure].",
            "It [might] be {adj}, or [maybe] not; it is [hard] to say.",
            "I [doubt] that the {thing} is {adj}; it is [uncertain] and [questionable].",
            "[Possibly] {entry} {fact}, but I am [not] [sure].",
            "[Perhaps] {entry} {fact}, or [maybe] not.",
        ),
    ),
    Tone(
        "certainty",
        (
            "The {thing} was [certainly] {adj}, and {who} [knew] it.",
            "{who} {was} [absolutely] [certain] of it.",
            "[Without] [question], the {thing} was {adj}.",
            "It was [clear] and [proven]: the {thing} was {adj}.",
        ),
        (
            "The {thing} is [certainly] {adj}; that is [absolutely] [clear].",
            "[Of] [course] {entry} {fact}; that is [proven].",
            "[Everyone] [knows] that {entry} {fact}.",
            "[Without] [question], {entry} {fact}.",
            "It is [definitely] {adj}, and that is a [proven] [fact].",
        ),
    ),
    Tone(
        "politeness",
        (
            '"[Please], would you [kindly] show me the {thing}?" asked {name}.',
            '"[Thank] you so much for the {thing}, my [dear] [sir]," said {name}.',
            '"[Excuse] me, [madam], may I [please] see the {thing}?" said {name}.',
            '"[Thank] you, that is very [kind] of you," said {name} [politely].',
            '"You are most [welcome], my [dear] [madam]," said {name}.',
        ),
    ),
    Tone(
        "rudeness",
        (
            '"[Shut] [up] and give me the {thing}, you [fool]!" said {name}.',
            '"Get [lost], you [idiot]!" said {name} [rudely].',
            '"I do not [care] about your [silly] {thing}, you [fool]!" said {name}.',
            '"Go [away], you [ugly] [idiot]!" said {name} [rudely].',
            '"What a [dumb] question, you [fool]! [Shut] [up]!" said {name}.',
        ),
    ),
)
