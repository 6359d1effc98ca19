"""The heatmap as drawn and handled: image, words, headers, zoom, hover, keys.

Knows a lens reading and a cursor. Does not know the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg  # type: ignore[import-untyped]  # it carries no types
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal

from microscope.views.colour_map import colour_table, needs_light_text
from microscope.views.guard import guarded
from microscope.views.heatmap_axes import LayerHeader, TokenHeader
from microscope.views.heatmap_item import HeatmapItem
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent, QResizeEvent
    from PySide6.QtWidgets import QWidget

    from microscope.core.readings import LensReading

pg.setConfigOption("mouseRateLimit", -1)  # else the last move may be dropped, and the card lie

_CELL_PX = 84.0
_WIDEST_CELL_PX = 220.0  # a short prompt fills the panel
_NARROWEST_CELL_PX = 60.0
_ZOOM_LIMIT_PX = 260.0
_STEPS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, 1),
    Qt.Key.Key_Down: (0, -1),
}


class CellsView(pg.ViewBox):  # type: ignore[misc]  # pyqtgraph carries no types
    """Pans with the left button; the wheel zooms tokens, with Ctrl layers, with Shift pans."""

    clicked = Signal(QPointF)
    hovered = Signal(QPointF)
    left = Signal()

    def __init__(self) -> None:
        super().__init__(enableMenu=False, defaultPadding=0)
        self.disableAutoRange()

    @guarded
    def wheelEvent(self, ev: Any, axis: int | None = None) -> None:
        """Act on the wheel."""
        if ev.modifiers() & Qt.KeyboardModifier.ShiftModifier or (
            ev.orientation() == Qt.Orientation.Horizontal
        ):
            (first, last), _ = self.viewRange()
            self.translateBy(x=-ev.delta() / 1200 * (last - first))
            ev.accept()
            return
        layers = bool(ev.modifiers() & Qt.KeyboardModifier.ControlModifier)
        super().wheelEvent(ev, axis=1 if layers else 0)

    @guarded
    def mouseDragEvent(self, ev: Any, axis: int | None = None) -> None:
        """Pan with the left button only."""
        if ev.button() == Qt.MouseButton.LeftButton:
            super().mouseDragEvent(ev, axis)
        else:
            ev.ignore()

    @guarded
    def mouseClickEvent(self, ev: Any) -> None:
        """Report a left click."""
        if ev.button() == Qt.MouseButton.LeftButton:
            ev.accept()
            self.clicked.emit(self.mapToView(ev.pos()))

    @guarded
    def hoverEvent(self, ev: Any) -> None:
        """Report where the mouse is, or that it left."""
        if ev.isExit():
            self.left.emit()
        else:
            self.hovered.emit(self.mapToView(ev.pos()))


class HeatmapGraph(pg.GraphicsView):  # type: ignore[misc]  # pyqtgraph carries no types
    """Shows a reading; emits the cell that the user clicks, reaches by key, or hovers."""

    cell_chosen = Signal(int, int)
    cell_hovered = Signal(int, int)
    hover_ended = Signal()
    range_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, useOpenGL=False, background=None)
        self._shape = (0, 0)  # n_sites, n_tokens
        self._cursor = (0, 0)  # token, site
        self._wanted_cell_px: float | None = None
        self._sites: tuple[str, ...] = ()
        self._last: tuple[LensReading | None, np.ndarray] = (None, np.zeros((0, 0), np.uint8))
        self._view, self._words = CellsView(), HeatmapItem()
        self._image = pg.ImageItem(axisOrder="row-major")
        self._tokens, self._layers = TokenHeader(), LayerHeader()
        self._lay_out()
        self._view.sigRangeChanged.connect(self._on_range_changed)
        self._view.sigRangeChangedManually.connect(self._on_zoomed)
        self._view.clicked.connect(self._on_clicked)
        self._view.hovered.connect(self._on_hovered)
        self._view.left.connect(self.hover_ended)
        self.setAccessibleName("Heatmap of layers and tokens")
        self._dress()

    def _lay_out(self) -> None:
        layout = pg.GraphicsLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addItem(self._tokens, 0, 1)
        layout.addItem(self._layers, 1, 0)
        layout.addItem(self._view, 1, 1)
        self._view.addItem(self._image, ignoreBounds=True)
        self._view.addItem(self._words, ignoreBounds=True)
        self.setCentralItem(layout)

    def _dress(self) -> None:
        table = colour_table(current_theme().name)
        alpha = np.full((256, 1), 255, np.uint8)
        alpha[0] = 0  # not filled: the hatching shows
        self._image.setLookupTable(np.hstack([table, alpha]))
        self._is_light_ink = needs_light_text(table)
        self._tokens.fit()
        self._layers.fit()
        self._words.show_cells(*self._last, self._is_light_ink)

    # -- what to show -------------------------------------------------------------------

    def show_cells(self, lens: LensReading, shades: np.ndarray) -> None:
        """Show a reading in colours given as rows of the colour table, 0 where not filled."""
        is_new_shape = shades.shape != self._shape
        self._last, self._shape = (lens, shades), shades.shape
        self._image.setImage(np.ascontiguousarray(shades), autoLevels=False, levels=(0, 255))
        self._words.show_cells(lens, shades, self._is_light_ink)
        self._tokens.show_tokens(lens.tokens)
        if lens.sites != self._sites:
            self._sites = lens.sites
            self._layers.show_sites(lens.sites)
        if is_new_shape:
            self._fit()

    def show_cursor(self, token: int, site: int) -> None:
        """Frame a cell and bring it into view."""
        self._cursor = (token, site)
        self._words.show_cursor(token, site)
        self._tokens.show_cursor(token)
        self._layers.show_cursor(site)
        self._reveal(token)

    def forget_texts(self) -> None:
        """Drop what was kept of another model's words."""
        self._words.forget_texts()

    # -- what is in view ----------------------------------------------------------------

    def columns_in_view(self) -> tuple[float, float]:
        """The first and the last column in view, in tokens."""
        (first, last), _ = self._view.viewRange()
        return float(first), float(last)

    def scroll_to(self, first: float) -> None:
        """Pan so that the view starts at a column."""
        low, high = self.columns_in_view()
        self._view.setXRange(first, first + high - low, padding=0)

    def cell_box(self, token: int, site: int) -> QRectF:
        """Where a cell is drawn, in this widget's coordinates."""
        scene = (
            self._view.mapViewToScene(QPointF(token, site + 1)),
            self._view.mapViewToScene(QPointF(token + 1, site)),
        )
        return QRectF(self.mapFromScene(scene[0]), self.mapFromScene(scene[1]))

    def _fit(self) -> None:
        """Limit the view to the cells and choose how wide a cell is."""
        n_sites, n_tokens = self._shape
        width = max(float(self._view.width()), 1.0)
        if not n_sites or not n_tokens:
            return
        widest = max(float(n_tokens), width / (_WIDEST_CELL_PX * current_theme().scale))
        shown = min(width / self._cell_px(width, n_tokens), widest)
        self._view.setLimits(
            xMin=0, xMax=widest, yMin=0, yMax=n_sites,
            minXRange=min(width / _ZOOM_LIMIT_PX, widest), maxXRange=widest,
            minYRange=min(3, n_sites), maxYRange=n_sites,
        )  # fmt: skip
        first = min(max(self.columns_in_view()[0], 0.0), max(widest - shown, 0.0))
        self._view.setRange(xRange=(first, first + shown), yRange=(0, n_sites), padding=0)
        self._reveal(self._cursor[0])

    def _cell_px(self, width: float, n_tokens: int) -> float:
        if self._wanted_cell_px is not None:
            return self._wanted_cell_px
        whole, scale = width / n_tokens, current_theme().scale
        if whole >= _NARROWEST_CELL_PX * scale:
            return min(whole, _WIDEST_CELL_PX * scale)
        return _CELL_PX * scale

    def _reveal(self, token: int) -> None:
        first, last = self.columns_in_view()
        if not 0 <= token < self._shape[1] or (first <= token and token + 1 <= last):
            return
        self.scroll_to(token - 0.5 if token < first else token + 1.5 - (last - first))

    def _cell_at(self, place: QPointF) -> tuple[int, int] | None:
        token, site = int(np.floor(place.x())), int(np.floor(place.y()))
        n_sites, n_tokens = self._shape
        return (token, site) if 0 <= token < n_tokens and 0 <= site < n_sites else None

    # -- what the user does -------------------------------------------------------------

    def _on_range_changed(self, *_: object) -> None:
        (x0, x1), (y0, y1) = self._view.viewRange()
        self._tokens.show_range(x0, x1)
        self._layers.show_range(y0, y1)
        self.range_changed.emit()

    def _on_zoomed(self, *_: object) -> None:
        first, last = self.columns_in_view()
        self._wanted_cell_px = self._view.width() / max(last - first, 1e-9)

    def _on_clicked(self, place: QPointF) -> None:
        cell = self._cell_at(place)
        if cell is not None:
            self.cell_chosen.emit(*cell)

    def _on_hovered(self, place: QPointF) -> None:
        cell = self._cell_at(place)
        if cell is None:
            self.hover_ended.emit()
        else:
            self.cell_hovered.emit(*cell)

    @guarded
    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Act on the keys that mean something here."""
        step = _STEPS.get(Qt.Key(event.key()))
        if step is None:
            event.ignore()
            return
        token, site = self._cursor[0] + step[0], self._cursor[1] + step[1]
        if 0 <= site < self._shape[0] and 0 <= token < self._shape[1]:
            self.cell_chosen.emit(token, site)

    @guarded
    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Follow the room there is."""
        super().resizeEvent(event)
        if hasattr(self, "_view"):  # Qt resizes once before our constructor has run
            self._fit()

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_view"):
            self._dress()
            self._fit()
