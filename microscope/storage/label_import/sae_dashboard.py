"""SAEDashboard's `batch-*.json`: many features of one SAE in one object.

`features` has an object a feature with `feature_index`, statistics as in Neuronpedia's own
files, and `activations`, texts with values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.storage.label_import.features import histogram_of
from microscope.storage.label_import.finds import Find
from microscope.storage.label_import.layout import Layout
from microscope.storage.label_import.values import (
    example,
    index_of,
    name,
    number,
    records,
    token_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.storage.label_import.values import Record


def _recognises(record: Record) -> bool:
    return isinstance(record.get("features"), list) and "index" not in record


def _finds(record: Record) -> Iterator[Find]:
    parts = (name(record, key) for key in ("layer", "sae_set", "sae_id_suffix"))
    source = "-".join(part for part in parts if part)
    for feature in records(record, "features"):
        yield _find(feature, source)


def _find(feature: Record, source: str) -> Find:
    examples = tuple(
        example(shown, "tokens", "values") for shown in records(feature, "activations")
    )
    return Find(
        index=index_of(feature, "feature_index"),
        source=source,
        max_activation=max((shown.peak for shown in examples), default=0.0),
        density=number(feature, "frac_nonzero"),
        histogram=histogram_of(feature),
        top_tokens=token_weights(feature, "pos_str", "pos_values"),
        bottom_tokens=token_weights(feature, "neg_str", "neg_values"),
        examples=examples,
    )


SAE_DASHBOARD = Layout("SAEDashboard batch", _recognises, _finds)
