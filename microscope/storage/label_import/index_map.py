"""Plain lists of labels: JSON from index to text, and rows of CSV or TSV.

A JSON array of texts labels features 0, 1, 2, ... in order.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from microscope.core.pages import Label
from microscope.storage.label_import.finds import Find
from microscope.storage.label_import.layout import Layout
from microscope.storage.label_import.values import MalformedError, clean, feature_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from microscope.storage.label_import.values import Record

SOURCE = "import"
_RANK = 9  # what somebody wrote down by hand is what they want to see

_INDEX_NAMES = ("index", "feature", "feature_index", "feature_id", "id", "latent")
_LABEL_NAMES = ("label", "description", "explanation", "text", "name", "title")


def labelled(index: object, label: object) -> Iterator[Find]:
    """One label of one feature; an empty one tells nothing."""
    if not isinstance(label, str):
        raise MalformedError(f"the label of feature {index!r:.40} is not a text")
    number, words = feature_index(index, "the index"), clean(label).strip()
    if words:
        yield Find(index=number, labels=(Label(words, SOURCE, None, _RANK),))


def _recognises(record: Record) -> bool:
    return bool(record) and all(key.isdecimal() for key in record)


def _finds(record: Record) -> Iterator[Find]:
    for index, label in record.items():
        yield from labelled(index, label)


INDEX_MAP = Layout("labels by index", _recognises, _finds)


def table_finds(lines: Iterable[str], separator: str) -> Iterator[Find]:
    """Rows of a table as finds; the first row may name the columns.

    Raises:
        MalformedError: a row is none, or there is no column of numbers and one of labels.
    """
    rows = csv.reader(lines, delimiter=separator)
    columns: tuple[int, int] | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = named = _named_columns(row)
                if named:
                    continue
                columns = _first_columns(row)
            yield from _labelled_row(row, columns)
    except csv.Error as error:
        raise MalformedError(f"row {rows.line_num} is no row of a table ({error})") from error


def _labelled_row(row: list[str], columns: tuple[int, int]) -> Iterator[Find]:
    if len(row) <= max(columns):
        raise MalformedError(f"the row {','.join(row)!r:.60} has too few columns")
    return labelled(row[columns[0]], row[columns[1]])


def _first_columns(row: list[str]) -> tuple[int, int]:
    if not row[0].strip().strip("\ufeff").isdecimal() or len(row) < 2:
        raise MalformedError(
            "it has neither a known layout of labels nor rows that begin with the number of a "
            "feature"
        )
    return 0, 1


def _named_columns(row: list[str]) -> tuple[int, int] | None:
    """Where a heading says that numbers and labels stand; None if the row is no heading."""
    names = [cell.strip().strip("\ufeff").lower() for cell in row]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    index = next((places[name] for name in _INDEX_NAMES if name in places), None)
    label = next((places[name] for name in _LABEL_NAMES if name in places), None)
    return None if index is None or label is None else (index, label)
