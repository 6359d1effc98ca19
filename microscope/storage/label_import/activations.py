"""Lines of Neuronpedia's `activations` files: one text with a feature's activations.

`tokens` and `values` have equal lengths; `layer` is the source's id. Values are those of
decoder rows of length 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.storage.label_import.finds import Find
from microscope.storage.label_import.layout import Layout
from microscope.storage.label_import.values import example, index_of, name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.storage.label_import.values import Record


def _recognises(record: Record) -> bool:
    return "tokens" in record and "values" in record and "index" in record


def _finds(record: Record) -> Iterator[Find]:
    yield Find(
        index=index_of(record, "index"),
        source=name(record, "layer"),
        examples=(example(record, "tokens", "values"),),
    )


ACTIVATIONS = Layout("Neuronpedia activations", _recognises, _finds)
