"""A small text of many kinds on which SAEs are measured: about 500 tokens, each document short.

Short documents, since some SAEs were trained on contexts of 128 tokens only.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

FILE = "checkup.json"
"""A list of texts beside a model's files, for a model that does not know everyday English."""

MAX_BYTES = 1 << 18
MAX_TEXTS = 16

DOCUMENTS: tuple[str, ...] = (
    "The ferry left the island a little after six, and the passengers who had missed breakfast "
    "stood in a line by the small kitchen. Outside, gulls followed the white water behind the "
    "ship. An old man told his granddaughter that he had crossed this strait for the first "
    "time in 1958, when the boats still burned coal and the trip took most of a day.",
    "Plants make sugar from light, water and carbon dioxide. The green pigment in their leaves "
    "absorbs red and blue light best, and the energy is used to split water into hydrogen and "
    "oxygen. Most of the oxygen in the air was made in this way. At night the process stops, "
    "but the plant goes on breathing, as animals do.",
    "def average(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
    "    if not values:\n        raise ValueError('no values')\n"
    "    return total / len(values)\n\nprint(average([1, 2, 3.5]))\n",
    "The city council voted on Tuesday to close the old bridge to cars from next spring. "
    "Shop owners on the northern bank are worried about deliveries, while people who cycle to "
    "work have asked for the change for years. The mayor said that the repairs will cost 4.2 "
    "million dollars and that two new bus lines will start in March.",
    "To make the soup, cut two onions and a carrot into small pieces and fry them in butter "
    "until they are soft. Add a litre of water, some salt and the potatoes, and let it boil "
    "for twenty minutes. Serve it hot with black bread, and do not forget the parsley.",
    '"Are you coming or not?" asked Maria. She had her coat on already. "I still have to find '
    'my keys," said Tom from the kitchen. "They are in your hand," she said, and both of them '
    "began to laugh. It was the third time this week.",
    "The company reported higher profits for the second quarter, although sales in Asia fell "
    "by 7 percent. Analysts had expected less. Its shares rose in early trading, then gave "
    "back most of the gain when the bank left interest rates as they were.",
)
"""Written for this purpose: story, science, code, news, recipe, talk, business."""


def documents_for(folder: str) -> tuple[str, ...]:
    """The texts on which a model is checked: its own, where its folder has some."""
    path = Path(folder) / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            return DOCUMENTS
        texts = msgspec.json.decode(path.read_bytes(), type=tuple[str, ...])
    except FileNotFoundError:
        return DOCUMENTS
    except (OSError, ValueError, RecursionError):
        log.info("no texts for a check-up in %s", path, exc_info=True)
        return DOCUMENTS
    return tuple(text for text in texts[:MAX_TEXTS] if text) or DOCUMENTS
