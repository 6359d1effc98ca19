"""From a file to what it tells of features; layouts are recognised from the content."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from microscope.storage.label_import.activations import ACTIVATIONS
from microscope.storage.label_import.circuit_tracer import CIRCUIT_TRACER
from microscope.storage.label_import.explanations import EXPLANATIONS, WRAPPED_EXPLANATIONS
from microscope.storage.label_import.features import FEATURES
from microscope.storage.label_import.index_map import INDEX_MAP, labelled, table_finds
from microscope.storage.label_import.json_items import (
    MAX_OBJECT_CHARACTERS,
    items_of_array,
    parsed,
)
from microscope.storage.label_import.sae_dashboard import SAE_DASHBOARD
from microscope.storage.label_import.text_file import opened, split_lines, unreadable
from microscope.storage.label_import.values import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from microscope.storage.label_import.finds import Find
    from microscope.storage.label_import.layout import Layout
    from microscope.storage.label_import.text_file import TextFile

LAYOUTS: tuple[Layout, ...] = (
    CIRCUIT_TRACER,
    FEATURES,
    ACTIVATIONS,
    EXPLANATIONS,
    SAE_DASHBOARD,
    WRAPPED_EXPLANATIONS,
    INDEX_MAP,
)


def finds_in(path: Path) -> Iterator[Find]:
    """What a file tells, one find at a time; nothing where its records are of no layout.

    Raises:
        LabelsUnreadable: the file is damaged, or has values of the wrong kind.
    """
    with opened(path) as file:
        try:
            yield from _finds(file)
        except MalformedError as error:
            raise unreadable(path, str(error)) from error


def _finds(file: TextFile) -> Iterator[Find]:
    pieces = file.pieces()
    head = next((piece for piece in pieces if piece.strip()), "")
    text, start = chain((head,), pieces), head.lstrip()[:1]
    if start == "[":
        yield from _finds_in_array(items_of_array(text))
        return
    lines = split_lines(text)
    first = next((line for line in lines if line.strip()), "")
    if start == "{" and (record := _whole_object(first)) is not None:
        yield from finds_of(record)
        yield from _finds_in_lines(lines)
    elif start == "{":
        yield from finds_of(parsed(_joined(first, lines)))
    elif first:
        rows = (f"{line}\n" for line in chain((first,), lines))
        yield from table_finds(rows, "\t" if "\t" in first else ",")


def finds_of(record: Any) -> Iterator[Find]:
    """What one JSON value tells; nothing if it is of no layout."""
    if not isinstance(record, dict):
        raise MalformedError("it has entries that are not objects")
    layout = next((known for known in LAYOUTS if known.recognises(record)), None)
    if layout is not None:
        yield from layout.finds(record)


def _finds_in_lines(lines: Iterator[str]) -> Iterator[Find]:
    for number, line in enumerate(lines, 2):
        if line.strip():
            try:
                yield from finds_of(parsed(line))
            except MalformedError as error:
                raise MalformedError(f"in line {number}, {error}") from error


def _finds_in_array(items: Iterator[Any]) -> Iterator[Find]:
    for number, item in enumerate(items):
        try:
            yield from labelled(number, item) if isinstance(item, str) else finds_of(item)
        except MalformedError as error:
            raise MalformedError(f"in item {number + 1}, {error}") from error


def _whole_object(line: str) -> dict[str, Any] | None:
    """The object in a line; None where it goes on in the next one."""
    if not line.rstrip().endswith("}"):
        return None
    try:
        found = parsed(line)
    except MalformedError:
        return None
    return found if isinstance(found, dict) else None


def _joined(first: str, lines: Iterator[str]) -> str:
    parts, n_characters = [first], len(first)
    for line in lines:
        n_characters += len(line) + 1
        if n_characters > MAX_OBJECT_CHARACTERS:
            raise MalformedError("it is one object, and larger than can be read at once")
        parts.append(line)
    return "\n".join(parts)
