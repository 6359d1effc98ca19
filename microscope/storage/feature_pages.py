"""The store of feature pages: one SQLite file that holds what is known of an SAE's features.

Knows `core.pages.FeaturePage` and SQL, nothing of where pages come from. A file from somewhere
else is only ever read: it is opened read-only, its schema is not trusted, no extension loads.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec

from microscope.core.errors import StoreUnreadable
from microscope.core.pages import FeatureDetails, FeaturePage, Label
from microscope.storage.feature_details import (
    TABLES,
    add_details,
    best_label,
    read_details,
    remember_page_label,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from microscope.core.features import FeatureId

APPLICATION_ID = 0x4D46_5047
"""Tells this kind of file from other SQLite databases ("MFPG")."""

_STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE pages (
            id INTEGER PRIMARY KEY,
            sae TEXT NOT NULL,
            feature INTEGER NOT NULL,
            label TEXT NOT NULL,
            label_score REAL,
            label_source TEXT NOT NULL,
            max_activation REAL NOT NULL,
            density REAL,
            UNIQUE (sae, feature)
        ) STRICT""",
        "CREATE VIRTUAL TABLE labels USING fts5 (label)",
    ),
    TABLES,
)
"""Step n brings a store from version n to n + 1; a later version adds a step."""

SCHEMA_VERSION = len(_STEPS)

_COLUMNS = (
    "p.sae, p.feature, p.label, p.label_score, p.label_source, p.max_activation, p.density"
)
_WAIT_SECONDS = 10.0
_DETAILS_SINCE = 2
"""The version of the schema that has tables for details."""


class FeaturePages:
    """An open store; a context manager. Reads unless `is_writable`, which makes a missing file.

    Readers and one writer may have the same file open at once, in any number of processes. A
    connection belongs to the thread that opened it.

    Raises:
        StoreUnreadable: the file is missing, is no store of pages, or is from a newer version.
    """

    def __init__(self, path: Path, *, is_writable: bool = False) -> None:
        self._path = path
        self._is_writable = is_writable
        with self._explained():
            self._db = self._connect()
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> FeaturePages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._is_writable:
            # A store that is no longer in write-ahead mode opens in a folder that is read-only.
            # While somebody reads, this is refused, and the file is good either way.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    def write(self, pages: Iterable[FeaturePage]) -> None:
        """Add pages, each in place of one that the feature may have; all of them or none."""
        with self._explained(), self._db:
            for page in pages:
                self._write_page(page)

    def merge(self, told: Iterable[tuple[FeaturePage, FeatureDetails]]) -> None:
        """Add to what is known of features; all of it or none.

        Fields that are empty in what is told change nothing. The label that a page shows is
        then the preferred one of all that are known.
        """
        with self._explained(), self._db:
            for page, details in told:
                known = self.page(page.feature)
                if known:
                    remember_page_label(self._db, known)
                add_details(self._db, details)
                label = best_label(self._db, page.feature)
                self._write_page(merged(known or page, page, label))

    def details(self, feature: FeatureId) -> FeatureDetails:
        """What else is known of a feature; empty in stores that are older than details."""
        with self._explained():
            if self._version() < _DETAILS_SINCE:
                return FeatureDetails(feature)
            return read_details(self._db, feature)

    def page(self, feature: FeatureId) -> FeaturePage | None:
        """The page of a feature, or None if there is none."""
        rows = self._select("WHERE p.sae = ? AND p.feature = ?", (feature.sae, feature.index))
        return rows[0] if rows else None

    def pages_of(self, sae: str) -> dict[int, FeaturePage]:
        """All pages of one SAE by feature index."""
        rows = self._select("WHERE p.sae = ? ORDER BY p.feature", (sae,))
        return {page.feature.index: page for page in rows}

    def search(self, text: str, limit: int = 50) -> list[FeaturePage]:
        """Pages whose label has every word of `text` (or a word that starts so), best first."""
        words = text.replace('"', " ").replace("\0", " ").split()
        query = " ".join(f'"{word}"*' for word in words)
        if not query:
            return []
        return self._select(
            "JOIN labels l ON l.rowid = p.id WHERE labels MATCH ? "
            "ORDER BY l.rank, p.label_score DESC, p.id LIMIT ?",
            (query, max(0, limit)),
        )

    def _connect(self) -> sqlite3.Connection:
        mode = "rwc" if self._is_writable else "ro"
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        return db

    def _prepare(self) -> None:
        version = self._version()
        if version > SCHEMA_VERSION:
            raise StoreUnreadable(
                f"{self._path} was written by a newer version of Microscope (store version "
                f"{version}, this program reads up to {SCHEMA_VERSION}). Update Microscope."
            )
        if self._is_writable:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._upgrade()
        elif version < 1:
            raise self._unreadable("it is no store of feature pages")

    def _version(self) -> int:
        """The version of the file's schema; 0 for an empty file."""
        (owner,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (n_tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if n_tables and owner != APPLICATION_ID:
            raise self._unreadable("it is a database of another program")
        return int(version)

    def _upgrade(self) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")  # one writer at a time makes the tables
            for step in _STEPS[self._version() :]:
                for statement in step:
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _write_page(self, page: FeaturePage) -> None:
        (row,) = self._db.execute(
            "INSERT INTO pages (sae, feature, label, label_score, label_source, "
            "max_activation, density) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (sae, feature) DO UPDATE SET label = excluded.label, "
            "label_score = excluded.label_score, label_source = excluded.label_source, "
            "max_activation = excluded.max_activation, density = excluded.density "
            "RETURNING id",
            (page.feature.sae, page.feature.index, *msgspec.structs.astuple(page)[1:]),
        ).fetchall()
        self._db.execute("DELETE FROM labels WHERE rowid = ?", row)
        self._db.execute("INSERT INTO labels (rowid, label) VALUES (?, ?)", (*row, page.label))

    def _select(self, rest: str, values: tuple[object, ...]) -> list[FeaturePage]:
        with self._explained():
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM pages p {rest}", values)
            return [_page(row) for row in rows]

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in the user's words what SQLite found wrong with the file."""
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.ValidationError) as error:
            raise self._unreadable(str(error)) from error

    def _unreadable(self, why: str) -> StoreUnreadable:
        return StoreUnreadable(
            f"The feature pages in {self._path} cannot be used: {why}. Choose another file, or "
            "make the pages again."
        )


def merged(known: FeaturePage, told: FeaturePage, label: Label | None = None) -> FeaturePage:
    """A page with what is told of it; empty fields change nothing."""
    shown = label or Label(told.label, told.label_source, told.label_score)
    if not shown.text:
        shown = Label(known.label, known.label_source, known.label_score)
    density = known.density if told.density is None else told.density
    return FeaturePage(
        known.feature,
        shown.text,
        shown.score,
        shown.source,
        told.max_activation or known.max_activation,
        density,
    )


def _page(row: tuple[Any, ...]) -> FeaturePage:
    sae, feature, label, score, source, maximum, density = row
    return msgspec.convert(
        {
            "feature": {"sae": sae, "index": feature},
            "label": label,
            "label_score": score,
            "label_source": source,
            "max_activation": maximum,
            "density": density,
        },
        FeaturePage,
    )
