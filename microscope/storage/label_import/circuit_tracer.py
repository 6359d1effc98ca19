"""The JSON of one feature as circuit-tracer writes it.

`examples_quantiles` has groups of texts with `tokens` and `tokens_acts_list`; `histogram`
has counts between `act_min` and `act_max`. Activations are those of the transcoder's own
weights, whose decoder rows need not have length 1: the maximum is not taken over, since
sliders count in other units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.core.pages import Label
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
    text,
    token_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.core.pages import Histogram
    from microscope.storage.label_import.values import Record


def _recognises(record: Record) -> bool:
    return "index" in record and ("examples_quantiles" in record or "top_logits" in record)


def _finds(record: Record) -> Iterator[Find]:
    label = text(record, "clerp").strip()
    yield Find(
        index=index_of(record, "index"),
        source=name(record, "transcoder_id", "scan"),
        labels=(Label(label, "circuit-tracer"),) if label else (),
        density=number(record, "activation_frequency"),
        histogram=_histogram(record),
        top_tokens=token_weights(record, "top_logits", "top_logit_values"),
        bottom_tokens=token_weights(record, "bottom_logits", "bottom_logit_values"),
        examples=tuple(
            example(shown, "tokens", "tokens_acts_list")
            for group in records(record, "examples_quantiles")
            for shown in records(group, "examples")
        ),
        is_raw=True,
    )


def _histogram(record: Record) -> Histogram | None:
    """Bars of equal width from `act_min` to `act_max`."""
    counts = numbers(record, "histogram", MAX_BINS)
    low, high = number(record, "act_min") or 0.0, number(record, "act_max")
    if not counts or high is None:
        return None
    width = (high - low) / len(counts)
    return histogram([low + width * (n + 0.5) for n in range(len(counts))], counts)


CIRCUIT_TRACER = Layout("circuit-tracer feature", _recognises, _finds)
