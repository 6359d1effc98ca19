"""What the window asks and explains in a dialog."""

from __future__ import annotations

from html import escape
from pathlib import Path

from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QMessageBox,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

import microscope

GLOSSARY = (
    (
        "Token",
        "The unit a model reads and writes: a word or a piece of one. Spaces are shown as ·",
    ),
    (
        "Prompt",
        "What the model is given. Its tokens stand below the text; a click puts the cursor "
        "there, and every panel follows.",
    ),
    (
        "Layers",
        "A model passes each token through a stack of layers. A cell of the heatmap shows what "
        "the model would say next if it stopped there. The top row is its real answer.",
    ),
    (
        "Logit lens",
        "The reading behind the heatmap: the state after a layer, put through the model's own "
        "last steps.",
    ),
    (
        "Feature",
        "A direction inside a layer that stands for something, such as a place or a tone, "
        "found by a sparse autoencoder (SAE). Its activation says how strongly it is on at a "
        "token.",
    ),
    (
        "Unexplained share",
        "The part of the model's state that the SAE's features do not account for.",
    ),
    (
        "Clamp",
        "A feature held at a value while the model writes. 1 × max is the strongest it was "
        "ever seen; 0 is off. The rest of the state is left as it was.",
    ),
    (
        "Baseline and steered",
        "The same prompt continued without and with the clamps. Both share their random draws, "
        "so a word that differs differs because of the clamps.",
    ),
    (
        "KL",
        "How far the clamps moved the model's prediction at a token, in nats; 0 is not at all.",
    ),
    (
        "Entropy",
        "How undecided the model is, in nats; 0 is certain.",
    ),
)


def glossary_dialog(parent: QWidget) -> QDialog:
    """The words of this window in plain language."""
    dialog = QDialog(parent)
    dialog.setWindowTitle("What am I looking at?")
    text = QTextBrowser()
    text.setHtml("".join(f"<p><b>{escape(w)}.</b> {escape(m)}</p>" for w, m in GLOSSARY))
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.reject)
    layout = QVBoxLayout(dialog)
    layout.addWidget(text)
    layout.addWidget(buttons)
    dialog.resize(620, 560)
    return dialog


def about_box(parent: QWidget) -> QMessageBox:
    """Name, version, licences."""
    box = QMessageBox(parent)
    box.setWindowTitle("About Microscope")
    box.setText(f"Microscope {microscope.__version__}")
    box.setInformativeText(
        "Puts a language model under glass: every layer's guess, its features, and sliders "
        "that hold them.\n\nApache License 2.0. Uses Qt and PySide6 under the LGPL 3."
    )
    return box


def ask_folder(parent: QWidget, title: str) -> str:
    """A folder that the user picks; empty when they change their mind."""
    return QFileDialog.getExistingDirectory(parent, title)


def ask_picture_path(parent: QWidget) -> str:
    """Where to save a picture; empty when the user changes their mind."""
    path, _ = QFileDialog.getSaveFileName(
        parent, "Save picture", str(Path.home() / "microscope.png"), "PNG (*.png)"
    )
    return path
