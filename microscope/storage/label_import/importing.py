"""The import: every file at a path, checked against one SAE, into a store of pages."""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from microscope.core.errors import LabelsUnreadable
from microscope.core.features import FeatureId
from microscope.storage.label_import.reading import finds_in
from microscope.storage.label_import.text_file import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from microscope.core.pages import FeatureDetails, FeaturePage
    from microscope.storage.feature_pages import FeaturePages
    from microscope.storage.label_import.finds import Find

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
_MAX_FILES = 20_000
_FINDS_LOOKED_AT = 50
_LAYER = re.compile(r"^(\d{1,4})(?:-|$)|(?:layer|blocks)[._-]?(\d{1,4})(?:\D|$)")


class ImportReport(msgspec.Struct, frozen=True):
    """What an import brought in."""

    sae: str
    files: int
    features: int
    labels: int
    examples: int

    @property
    def summary(self) -> str:
        """What came in, in a sentence."""
        found = [
            _counted(number, noun)
            for number, noun in ((self.labels, "label"), (self.examples, "example"))
            if number
        ]
        what = " and ".join(found) or "Statistics"
        return f"{what} for {_counted(self.features, 'feature')} of {self.sae} imported."


class _Tally:
    """Counts finds on their way, and refuses those that cannot belong to the SAE."""

    def __init__(self, sae: str, n_features: int | None) -> None:
        self._sae, self._n_features = sae, n_features
        self._source = ""
        self._seen: set[int] = set()
        self.files = self.labels = self.examples = 0

    def checked(self, finds: Iterable[Find], path: Path) -> Iterator[Find]:
        """The finds of one file."""
        has_any = False
        for find in finds:
            self._check(find, path)
            self._seen.add(find.index)
            self.labels += len(find.labels)
            self.examples += len(find.examples)
            has_any = True
            yield find
        self.files += has_any

    def report(self) -> ImportReport:
        """What has been counted."""
        return ImportReport(self._sae, self.files, len(self._seen), self.labels, self.examples)

    def _check(self, find: Find, path: Path) -> None:
        if self._n_features is not None and find.index >= self._n_features:
            raise LabelsUnreadable(
                f"{path} tells of feature {find.index}, and {self._sae} has {self._n_features} "
                "features: the file is about another SAE. Choose the SAE that it was made for."
            )
        if find.source and self._source and find.source != self._source:
            raise LabelsUnreadable(
                f"{path} tells of {find.source}, and what was read before of {self._source}. "
                "Choose a file or folder that is about one SAE."
            )
        self._source = self._source or find.source


def import_labels(
    path: Path, sae: str, store: FeaturePages, n_features: int | None = None
) -> ImportReport:
    """Add what a file, or every file below a folder, tells of an SAE's features to a store.

    All of it or none. Files of a folder that hold no labels are passed over.

    Args:
        path: a file or a folder.
        sae: the name that the store calls the SAE by.
        store: an open store that can be written.
        n_features: how many features the SAE has, to refuse files about a larger one.

    Raises:
        LabelsUnreadable: there are no labels, a file is damaged, or is about another SAE.
        StoreUnreadable: the store cannot be written.
    """
    tally = _Tally(sae, n_features)
    store.merge(_told(path, sae, tally))
    return tally.report()


def layer_named_in(path: Path) -> int | None:
    """The number of the layer that a file says it is about, such as 7 of `7-res-jb`.

    Raises:
        LabelsUnreadable: a file is damaged.
    """
    for file in files_at(path):
        for find in islice(finds_in(file), _FINDS_LOOKED_AT):
            match = _LAYER.search(find.source)
            if match:
                return int(match[1] or match[2])
    return None


def files_at(path: Path) -> list[Path]:
    """The file, or those below a folder that may hold labels, in order of their names.

    Raises:
        LabelsUnreadable: there is nothing there, or too much.
    """
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for folder, _, names in os.walk(path):
        found.extend(path / folder / name for name in names if _may_hold_labels(name))
        if len(found) > _MAX_FILES:
            raise unreadable(path, f"the folder holds more than {_MAX_FILES} files")
    return sorted(found)


def _told(path: Path, sae: str, tally: _Tally) -> Iterator[tuple[FeaturePage, FeatureDetails]]:
    for file in files_at(path):
        for find in tally.checked(finds_in(file), file):
            feature = FeatureId(sae, find.index)
            yield find.page(feature), find.details(feature)
    if not tally.files:
        raise unreadable(path, "there are no labels in it")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _may_hold_labels(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(_SUFFIXES)
