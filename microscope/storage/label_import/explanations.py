"""Lines of Neuronpedia's `explanations` files, and the older export as one array.

One object an explanation: `modelId`, `layer` (the source's id, such as `7-res-jb`), `index`
(a number, or text), `description`, `typeName`, `explanationModelName`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.core.pages import Label
from microscope.storage.label_import.finds import Find
from microscope.storage.label_import.layout import Layout
from microscope.storage.label_import.values import index_of, name, records, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.storage.label_import.values import Record

_RANKS = {
    "np_max-act-logits": 4,
    "np_acts-logits-general": 3,
    "np_max-act": 2,
    "oai_token-act-pair": 1,
    "oai_attention-head": 1,
}
"""Ways of explaining, the ones that saw more first; others count 0."""


def _recognises(record: Record) -> bool:
    return "description" in record and ("index" in record or "feature" in record)


def _finds(record: Record) -> Iterator[Find]:
    yield Find(
        index=index_of(record, "index", "feature"),
        source=name(record, "layer"),
        labels=labels_of([record]),
    )


def labels_of(explanations: list[Record]) -> tuple[Label, ...]:
    """The labels of explanations, each with its kind and the model that wrote it."""
    found = (_label(explanation) for explanation in explanations)
    return tuple(label for label in found if label.text)


def _label(record: Record) -> Label:
    kind, author = name(record, "typeName"), name(record, "explanationModelName")
    source = " · ".join(part for part in (kind, author) if part)
    return Label(
        text(record, "description").strip(), source or "import", None, _RANKS.get(kind, 0)
    )


def _recognises_wrapped(record: Record) -> bool:
    return isinstance(record.get("explanations"), list) and "index" not in record


def _finds_wrapped(record: Record) -> Iterator[Find]:
    for explanation in records(record, "explanations"):
        yield from _finds(explanation)


EXPLANATIONS = Layout("Neuronpedia explanations", _recognises, _finds)
WRAPPED_EXPLANATIONS = Layout("older Neuronpedia export", _recognises_wrapped, _finds_wrapped)
