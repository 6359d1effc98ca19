"""What is asked before labels are imported: the file, and the SAE that they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog, QInputDialog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtWidgets import QWidget

BY_THE_FILE = "The SAE of the layer that the file names"
_KINDS = "Labels (*.jsonl *.jsonl.gz *.json *.json.gz *.csv *.tsv *.txt);;All files (*)"


def ask_label_file(parent: QWidget) -> str:
    """A file of labels; empty when the user changes their mind."""
    path, _ = QFileDialog.getOpenFileName(parent, "Import labels", "", _KINDS)
    return path


def ask_sae(parent: QWidget, names: Sequence[str]) -> str | None:
    """The SAE that labels are for; empty leaves it to the file, None is a change of mind.

    With one SAE open there is nothing to ask.
    """
    if len(names) == 1:
        return names[0]
    choices = [BY_THE_FILE, *names]
    question = "Which SAE are these labels for?"
    chosen, is_sure = QInputDialog.getItem(parent, "Import labels", question, choices, 0, False)
    if not is_sure:
        return None
    return "" if chosen == BY_THE_FILE else chosen
