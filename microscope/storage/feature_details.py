"""The tables of a feature's details in a store of pages: labels, facts, examples.

Knows SQL and `core.pages`. Works on an open database; transactions are the caller's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from microscope.core.pages import (
    Example,
    FeatureDetails,
    Histogram,
    Label,
    TokenWeight,
)

if TYPE_CHECKING:
    import sqlite3

    from microscope.core.features import FeatureId
    from microscope.core.pages import FeaturePage

TABLES: tuple[str, ...] = (
    """CREATE TABLE feature_labels (
        id INTEGER PRIMARY KEY,
        sae TEXT NOT NULL,
        feature INTEGER NOT NULL,
        label TEXT NOT NULL,
        source TEXT NOT NULL,
        score REAL,
        preference INTEGER NOT NULL,
        UNIQUE (sae, feature, source, label)
    ) STRICT""",
    """CREATE TABLE feature_facts (
        sae TEXT NOT NULL,
        feature INTEGER NOT NULL,
        facts TEXT NOT NULL,
        PRIMARY KEY (sae, feature)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE feature_examples (
        id INTEGER PRIMARY KEY,
        sae TEXT NOT NULL,
        feature INTEGER NOT NULL,
        peak REAL NOT NULL,
        example TEXT NOT NULL,
        UNIQUE (sae, feature, example)
    ) STRICT""",
    "CREATE INDEX examples_by_peak ON feature_examples (sae, feature, peak)",
)

MAX_LABELS = 40
MAX_EXAMPLES = 12
"""How many of each are kept for a feature; more are forgotten, the least preferred first."""

_BY_PREFERENCE = "ORDER BY preference DESC, id DESC"
_BY_PEAK = "ORDER BY peak DESC, id"


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a feature as one JSON text."""

    histogram: Histogram | None = None
    top_tokens: tuple[TokenWeight, ...] = ()
    bottom_tokens: tuple[TokenWeight, ...] = ()
    is_raw: bool = False


def read_details(db: sqlite3.Connection, feature: FeatureId) -> FeatureDetails:
    """All that the tables hold of a feature."""
    key = (feature.sae, feature.index)
    labels = db.execute(
        "SELECT label, source, score, preference FROM feature_labels "
        f"WHERE sae = ? AND feature = ? {_BY_PREFERENCE}",
        key,
    )
    examples = db.execute(
        f"SELECT example FROM feature_examples WHERE sae = ? AND feature = ? {_BY_PEAK}", key
    )
    facts = read_facts(db, feature)
    return FeatureDetails(
        feature,
        tuple(Label(*row) for row in labels),
        facts.histogram,
        facts.top_tokens,
        facts.bottom_tokens,
        tuple(_example(text) for (text,) in examples),
        facts.is_raw,
    )


def add_details(db: sqlite3.Connection, details: FeatureDetails) -> None:
    """Add what is told to what is known; facts that are told take the place of older ones."""
    feature = details.feature
    key = (feature.sae, feature.index)
    for label in details.labels:
        add_label(db, feature, label)
    for example in details.examples:
        db.execute(
            "INSERT OR IGNORE INTO feature_examples (sae, feature, peak, example) "
            "VALUES (?, ?, ?, ?)",
            (*key, example.peak, json.dumps([example.tokens, example.activations])),
        )
    if details.examples:
        _keep_first(db, "feature_examples", _BY_PEAK, MAX_EXAMPLES, key)
    if details.histogram or details.top_tokens or details.bottom_tokens:
        _add_facts(db, details)


def add_label(db: sqlite3.Connection, feature: FeatureId, label: Label) -> None:
    """Add one label; the same text from the same source counts once, as the newest."""
    key = (feature.sae, feature.index)
    db.execute(
        "INSERT OR REPLACE INTO feature_labels (sae, feature, label, source, score, preference)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (*key, label.text, label.source, label.score, label.rank),
    )
    _keep_first(db, "feature_labels", _BY_PREFERENCE, MAX_LABELS, key)


def best_label(db: sqlite3.Connection, feature: FeatureId) -> Label | None:
    """The label that is shown where there is room for one."""
    row = db.execute(
        "SELECT label, source, score, preference FROM feature_labels "
        f"WHERE sae = ? AND feature = ? {_BY_PREFERENCE} LIMIT 1",
        (feature.sae, feature.index),
    ).fetchone()
    return Label(*row) if row else None


def remember_page_label(db: sqlite3.Connection, page: FeaturePage) -> None:
    """Keep the label of a page among the others, unless some are known already."""
    if page.label and best_label(db, page.feature) is None:
        add_label(db, page.feature, Label(page.label, page.label_source, page.label_score))


def read_facts(db: sqlite3.Connection, feature: FeatureId) -> Facts:
    """Histogram and tokens of a feature; empty if none are known."""
    row = db.execute(
        "SELECT facts FROM feature_facts WHERE sae = ? AND feature = ?",
        (feature.sae, feature.index),
    ).fetchone()
    return msgspec.json.decode(row[0], type=Facts) if row else Facts()


def _add_facts(db: sqlite3.Connection, told: FeatureDetails) -> None:
    known = read_facts(db, told.feature)
    facts = Facts(
        told.histogram or known.histogram,
        told.top_tokens or known.top_tokens,
        told.bottom_tokens or known.bottom_tokens,
        told.is_raw if told.histogram else known.is_raw,
    )
    db.execute(
        "INSERT OR REPLACE INTO feature_facts (sae, feature, facts) VALUES (?, ?, ?)",
        (told.feature.sae, told.feature.index, msgspec.json.encode(facts).decode()),
    )


def _keep_first(
    db: sqlite3.Connection, table: str, order: str, n_kept: int, key: tuple[str, int]
) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} "
        f"WHERE sae = ? AND feature = ? {order} LIMIT -1 OFFSET {n_kept})",
        key,
    )


def _example(text: str) -> Example:
    tokens, activations = msgspec.json.decode(
        text, type=tuple[tuple[str, ...], tuple[float, ...]]
    )
    return Example(tokens, activations)
