"""What stands on the heatmap's image: words, hatching and the cursor, for cells in view only.

The image itself is one texture below. One item draws everything here, and only the exposed
part of it, so that 26 layers by 512 tokens pan as smoothly as 8 by 12.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetricsF, QPainter, QPen, QTransform
from PySide6.QtWidgets import QGraphicsItem, QGraphicsObject

from microscope.session.derived import visible_text
from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtWidgets import QStyleOptionGraphicsItem, QWidget

    from microscope.core.readings import LensReading

MIN_TEXT_WIDTH_PX = 28.0
MIN_TEXT_HEIGHT_PX = 11.0
_MIN_GRID_PX = 9.0
_INKS = (QColor("#0a0d12"), QColor("#ffffff"))


class HeatmapItem(QGraphicsObject):
    """Cells of 1 x 1 in item coordinates: x is the token, y the site, upwards."""

    def __init__(self) -> None:
        super().__init__()
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemUsesExtendedStyleOption)
        self._lens: LensReading | None = None
        self._shades = np.zeros((0, 0), np.uint8)  # (n_sites, n_tokens)
        self._is_light_ink = np.zeros(256, bool)
        self._cursor = (0, 0)
        self._shown: dict[int, str] = {}  # token id -> visible text
        self._elided: dict[tuple[int, int], str] = {}  # (token id, width in px) -> text
        self._elided_size = 0

    def show_cells(
        self, lens: LensReading | None, shades: np.ndarray, is_light_ink: np.ndarray
    ) -> None:
        """Replace the reading; `shades` are rows of the colour table, 0 where not filled."""
        if shades.shape != self._shades.shape:
            self.prepareGeometryChange()
        self._lens, self._shades, self._is_light_ink = lens, shades, is_light_ink
        self.update()

    def show_cursor(self, token: int, site: int) -> None:
        """Frame one cell."""
        self._cursor = (token, site)
        self.update()

    @guarded_else(QRectF())
    def boundingRect(self) -> QRectF:
        """The area of all cells."""
        n_sites, n_tokens = self._shades.shape
        return QRectF(0, 0, n_tokens, n_sites)

    @guarded
    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionGraphicsItem,
        widget: QWidget | None = None,
    ) -> None:
        """Draw what is in view."""
        exposed: QRectF = option.exposedRect
        area = exposed.intersected(self.boundingRect())
        if area.isEmpty():
            return
        to_pixels = painter.worldTransform()
        painter.setWorldTransform(QTransform())
        tokens = range(math.floor(area.left()), math.ceil(area.right()))
        sites = range(math.floor(area.top()), math.ceil(area.bottom()))
        self._draw_missing(painter, to_pixels, tokens, sites)
        self._draw_grid(painter, to_pixels, tokens, sites)
        self._draw_texts(painter, to_pixels, tokens, sites)
        self._draw_cursor(painter, to_pixels)
        painter.setWorldTransform(to_pixels)

    def _draw_missing(
        self, painter: QPainter, to_pixels: QTransform, tokens: range, sites: range
    ) -> None:
        brush = QBrush(current_theme().colour("missing"), Qt.BrushStyle.BDiagPattern)
        for site, start, stop in self._missing_runs(tokens, sites):
            painter.fillRect(to_pixels.mapRect(QRectF(start, site, stop - start, 1)), brush)

    def _missing_runs(self, tokens: range, sites: range) -> Iterator[tuple[int, int, int]]:
        missing = self._shades[sites.start : sites.stop, tokens.start : tokens.stop] == 0
        for row in np.flatnonzero(missing.any(axis=1)):
            start = tokens.start
            for is_missing, run in groupby(missing[row]):
                stop = start + sum(1 for _ in run)
                if is_missing:
                    yield sites.start + int(row), start, stop
                start = stop

    def _draw_grid(
        self, painter: QPainter, to_pixels: QTransform, tokens: range, sites: range
    ) -> None:
        cell = to_pixels.mapRect(QRectF(0, 0, 1, 1))
        painter.setPen(QPen(current_theme().colour("surface", 0.55), 1))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        if cell.width() >= _MIN_GRID_PX:
            for token in (*tokens, tokens.stop):
                ends = QPointF(token, sites.start), QPointF(token, sites.stop)
                painter.drawLine(to_pixels.map(ends[0]), to_pixels.map(ends[1]))
        if cell.height() >= _MIN_GRID_PX:
            for site in (*sites, sites.stop):
                ends = QPointF(tokens.start, site), QPointF(tokens.stop, site)
                painter.drawLine(to_pixels.map(ends[0]), to_pixels.map(ends[1]))

    def _draw_texts(
        self, painter: QPainter, to_pixels: QTransform, tokens: range, sites: range
    ) -> None:
        cell = to_pixels.mapRect(QRectF(0, 0, 1, 1))
        if cell.width() < MIN_TEXT_WIDTH_PX or cell.height() < MIN_TEXT_HEIGHT_PX:
            return
        font = current_theme().font()
        font.setPixelSize(round(min(QFontMetricsF(font).height() * 0.88, cell.height() * 0.72)))
        painter.setFont(font)
        self._forget_elided(font.pixelSize())
        metrics = QFontMetricsF(font)
        for site in sites:
            for token in tokens:
                if self._shades[site, token]:
                    box = to_pixels.mapRect(QRectF(token, site, 1, 1))
                    self._draw_text(painter, metrics, token, site, box)

    def _forget_elided(self, size: int) -> None:
        if size != self._elided_size or len(self._elided) > 50_000:
            self._elided.clear()
            self._elided_size = size

    def _draw_text(
        self, painter: QPainter, metrics: QFontMetricsF, token: int, site: int, box: QRectF
    ) -> None:
        assert self._lens is not None
        token_id = int(self._lens.ids[site, token, 0])
        key = (token_id, round(box.width()))
        if key not in self._elided:
            self._elided[key] = metrics.elidedText(
                self._text(token_id), Qt.TextElideMode.ElideRight, box.width() - 6
            )
        painter.setPen(_INKS[int(self._is_light_ink[self._shades[site, token]])])
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, self._elided[key])

    def _text(self, token_id: int) -> str:
        assert self._lens is not None
        if token_id not in self._shown:
            text = self._lens.texts.get(token_id)
            if text is None:
                return f"#{token_id}"
            self._shown[token_id] = visible_text(text)
        return self._shown[token_id]

    def forget_texts(self) -> None:
        """Drop the words kept by id: another model has other words."""
        self._shown.clear()
        self._elided.clear()

    def _draw_cursor(self, painter: QPainter, to_pixels: QTransform) -> None:
        token, site = self._cursor
        n_sites, n_tokens = self._shades.shape
        if not (0 <= token < n_tokens and 0 <= site < n_sites):
            return
        theme = current_theme()
        row = to_pixels.mapRect(QRectF(0, site, n_tokens, 1))
        column = to_pixels.mapRect(QRectF(token, 0, 1, n_sites))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(theme.colour("text", 0.45), 1))
        painter.drawRect(row)
        painter.drawRect(column)
        cell = row.intersected(column)
        painter.setPen(QPen(theme.colour("surface"), 4))
        painter.drawRect(cell.adjusted(1, 1, -1, -1))
        painter.setPen(QPen(theme.colour("text"), 2))
        painter.drawRect(cell.adjusted(1, 1, -1, -1))
