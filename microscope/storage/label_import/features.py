"""Lines of Neuronpedia's `features` files, and the answer of its API for one feature.

`maxActApprox` is in units of decoder rows of length 1; `frac_nonzero` is a share;
`freq_hist_data_bar_*` count non-zero activations; `pos_*` and `neg_*` are the tokens whose
logits the feature raises and lowers most. The API adds lists of activations and
explanations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.storage.label_import.explanations import labels_of
from microscope.storage.label_import.finds import Find
from microscope.storage.label_import.layout import Layout
from microscope.storage.label_import.values import (
    MAX_BINS,
    example,
    histogram,
    index_of,
    name,
    number,
    numbers,
    records,
    token_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.core.pages import Histogram
    from microscope.storage.label_import.values import Record

_TELLING_KEYS = frozenset(
    ("maxActApprox", "frac_nonzero", "pos_str", "freq_hist_data_bar_heights")
)


def _recognises(record: Record) -> bool:
    return "index" in record and not _TELLING_KEYS.isdisjoint(record)


def _finds(record: Record) -> Iterator[Find]:
    yield Find(
        index=index_of(record, "index"),
        source=name(record, "layer"),
        labels=labels_of(records(record, "explanations")),
        max_activation=max(0.0, number(record, "maxActApprox") or 0.0),
        density=number(record, "frac_nonzero"),
        histogram=histogram_of(record),
        top_tokens=token_weights(record, "pos_str", "pos_values"),
        bottom_tokens=token_weights(record, "neg_str", "neg_values"),
        examples=tuple(
            example(shown, "tokens", "values") for shown in records(record, "activations")
        ),
    )


def histogram_of(record: Record) -> Histogram | None:
    """The histogram of activations."""
    return histogram(
        numbers(record, "freq_hist_data_bar_values", MAX_BINS),
        numbers(record, "freq_hist_data_bar_heights", MAX_BINS),
    )


FEATURES = Layout("Neuronpedia features", _recognises, _finds)
