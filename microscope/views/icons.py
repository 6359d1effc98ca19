"""The window's own icons: SVG drawings whose `currentColor` takes the theme's colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from microscope.storage.paths import resources

if TYPE_CHECKING:
    from pathlib import Path

_SIZES_PX = (16, 24, 32, 64)


def icon_path(name: str) -> Path:
    """The drawing's file."""
    return resources() / "icons" / f"{name}.svg"


def icon(name: str, colour: str) -> QIcon:
    """The icon in a colour such as "#e8edf4".

    Raises:
        FileNotFoundError: there is no such drawing.
    """
    drawing = icon_path(name).read_text("utf-8").replace("currentColor", colour)
    renderer = QSvgRenderer(QByteArray(drawing.encode()))
    result = QIcon()
    for size in _SIZES_PX:
        picture = QPixmap(size, size)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        renderer.render(painter)
        painter.end()
        result.addPixmap(picture)
    return result
