"""Bringing labels and examples of features in from files that other programs have written."""

from microscope.storage.label_import.importing import (
    ImportReport,
    import_labels,
    layer_named_in,
)

__all__ = ["ImportReport", "import_labels", "layer_named_in"]
