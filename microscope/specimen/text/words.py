"""People, days, colours, numbers and other words that belong to no topic. Data only."""

from __future__ import annotations

WOMEN = ("Anna", "Mary", "Clara", "Nora", "Lucy", "Emma")
MEN = ("Tom", "Ben", "Peter", "Sam", "Leo", "David")
DAYS = ("Monday", "Tuesday", "Friday", "Saturday", "Sunday")
WHEN = (
    "in the morning",
    "in the evening",
    "at noon",
    "every day",
    "after lunch",
    "at night",
)
COLOURS = ("red", "green", "yellow", "blue", "black", "white", "brown", "pink", "purple")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
WEATHER = ("sunny", "windy", "cloudy", "warm", "cold", "dry", "foggy", "mild")
DISHES = ("apple pie", "vegetable soup", "pancakes", "onion soup", "honey cake")
FOODS = ("apples", "onions", "carrots", "potatoes", "eggs")
STUFF = ("butter", "flour", "sugar", "milk", "salt", "honey")

LEXICON: dict[str, tuple[str, ...]] = {
    "colours": (*COLOURS, "orange", "grey"),
    "numbers": (*NUMBERS, "one", "hundred"),
    "people": WOMEN + MEN,
    "days": DAYS,
    "food": (*FOODS, *STUFF, "onion", "pancakes", "pan"),
}
"""Words that carry a concept wherever they stand."""

_COMMON_TEXT = (
    "a an the and or of two three four five six seven eight nine ten twelve to in on at "
    "by with from for over under below above through along among around into near beside "
    "behind up down out is are was were be it its this that these his her my our their i "
    "we he she they you me him us them every many some on first one old new full has have "
    "had do go take look watch find make makes made wait walk stand hear see set call "
    "come comes leaves brings plays gives people many world kind group sign light main "
    "far each all most as long "
)
COMMON = frozenset(_COMMON_TEXT.split())
"""Words too common to carry a topic."""
