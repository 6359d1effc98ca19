"""The little English grammar the generator needs: verb forms, plurals, pronouns, articles."""

from __future__ import annotations

from dataclasses import dataclass

PAST = {
    "build": "built",
    "buy": "bought",
    "cut": "cut",
    "dig": "dug",
    "eat": "ate",
    "feed": "fed",
    "find": "found",
    "go": "went",
    "hear": "heard",
    "meet": "met",
    "pay": "paid",
    "read": "read",
    "ride": "rode",
    "run": "ran",
    "set": "set",
    "sing": "sang",
    "spend": "spent",
    "stand": "stood",
    "swim": "swam",
    "take": "took",
    "throw": "threw",
    "write": "wrote",
}
DOUBLED = frozenset({"cut", "dig", "run", "set", "swim"})
IRREGULAR_PLURALS = {"leaf": "leaves"}


def plural(noun: str) -> str:
    """The plural of a noun."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def past(activity: str) -> str:
    """An activity in the past tense: "walk home" gives "walked home"."""
    verb, space, rest = activity.partition(" ")
    return PAST.get(verb, _regular_past(verb)) + space + rest


def gerund(activity: str) -> str:
    """An activity as a noun: "take the train" gives "taking the train"."""
    verb, space, rest = activity.partition(" ")
    if verb in DOUBLED:
        verb += verb[-1]
    elif verb.endswith("e") and not verb.endswith("ee"):
        verb = verb[:-1]
    return verb + "ing" + space + rest


def _regular_past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + "ed"


def article(next_word: str) -> str:
    """`a` or `an` for the word that follows."""
    return "an" if next_word[:1] in "aeiou" and not next_word.startswith("use") else "a"


@dataclass(frozen=True)
class Pronouns:
    """The forms of one grammatical person."""

    subject: str
    possessive: str
    object: str
    was: str


SHE = Pronouns("she", "her", "her", "was")
HE = Pronouns("he", "his", "him", "was")
I = Pronouns("I", "my", "me", "was")  # noqa: E741 - it is the word
WE = Pronouns("we", "our", "us", "were")
