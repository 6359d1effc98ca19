"""The heatmap's frozen headers: tokens along the top, layers up the left side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter
from PySide6.QtWidgets import QGraphicsWidget

from microscope.session.derived import site_label, visible_text
from microscope.views.guard import guarded
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtWidgets import QStyleOptionGraphicsItem, QWidget

    from microscope.core.prompts import Token

_MIN_LABEL_PX = 16.0


class TokenHeader(QGraphicsWidget):
    """The prompt's tokens, each above its column."""

    def __init__(self) -> None:
        super().__init__()
        self.setFlag(QGraphicsWidget.GraphicsItemFlag.ItemClipsToShape)
        self._tokens: tuple[Token, ...] = ()
        self._range = (0.0, 1.0)
        self._cursor = 0
        self.fit()

    def fit(self) -> None:
        """Take the height that the theme's font needs."""
        height = QFontMetricsF(current_theme().font()).height() + 12
        self.setMinimumHeight(height)
        self.setMaximumHeight(height)

    def show_tokens(self, tokens: Sequence[Token]) -> None:
        """Replace the words."""
        self._tokens = tuple(tokens)
        self.update()

    def show_range(self, first: float, last: float) -> None:
        """Follow the columns in view."""
        self._range = (first, last)
        self.update()

    def show_cursor(self, token: int) -> None:
        """Mark one column."""
        self._cursor = token
        self.update()

    @guarded
    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionGraphicsItem,
        widget: QWidget | None = None,
    ) -> None:
        """Draw what is in view."""
        first, last = self._range
        cell = self.size().width() / max(last - first, 1e-9)
        painter.setFont(current_theme().font())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        metrics = QFontMetricsF(painter.font())
        for column in range(max(int(first), 0), min(int(last) + 1, len(self._tokens))):
            left = (column - first) * cell
            self._draw(painter, metrics, column, QRectF(left, 0, cell, self.size().height()))

    def _draw(
        self, painter: QPainter, metrics: QFontMetricsF, column: int, box: QRectF
    ) -> None:
        theme, token = current_theme(), self._tokens[column]
        ink = "muted" if token.is_special else "text"
        if column == self._cursor:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("accent"))
            painter.drawRoundedRect(box.adjusted(1, 2, -1, -2), 4, 4)
            ink = "on_accent"
        if box.width() < _MIN_LABEL_PX:
            return
        painter.setPen(theme.colour(ink))
        room = box.adjusted(3, 0, -3, 0)
        text = metrics.elidedText(
            visible_text(token.text), Qt.TextElideMode.ElideRight, room.width()
        )
        painter.drawText(room, Qt.AlignmentFlag.AlignCenter, text)


class LayerHeader(QGraphicsWidget):
    """The sites, the embedding at the bottom and the model's output on top."""

    def __init__(self) -> None:
        super().__init__()
        self.setFlag(QGraphicsWidget.GraphicsItemFlag.ItemClipsToShape)
        self._labels: tuple[str, ...] = ()
        self._range = (0.0, 1.0)
        self._cursor = 0
        self.fit()

    def fit(self) -> None:
        """Take the width that the longest label needs."""
        metrics = QFontMetricsF(current_theme().font())
        widest = max(map(metrics.horizontalAdvance, ("output 88", *self._labels)))
        self.setMinimumWidth(widest + 18)
        self.setMaximumWidth(widest + 18)

    def show_sites(self, sites: Sequence[str]) -> None:
        """Replace the labels."""
        names = [site_label(site) for site in sites]
        if len(names) > 1:
            names[-1] = f"output {names[-1]}"
        if tuple(names) != self._labels:
            self._labels = tuple(names)
            self.fit()
            self.update()

    def show_range(self, first: float, last: float) -> None:
        """Follow the rows in view."""
        self._range = (first, last)
        self.update()

    def show_cursor(self, site: int) -> None:
        """Mark one row."""
        self._cursor = site
        self.update()

    @guarded
    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionGraphicsItem,
        widget: QWidget | None = None,
    ) -> None:
        """Draw what is in view."""
        first, last = self._range
        size = self.size()
        cell = size.height() / max(last - first, 1e-9)
        font = current_theme().font()
        painter.setFont(font)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        step = max(1, round(QFontMetricsF(font).height() / cell + 0.4))
        for row in range(max(int(first), 0), min(int(last) + 1, len(self._labels))):
            top = size.height() - (row + 1 - first) * cell
            self._draw(painter, row, QRectF(0, top, size.width(), cell), step)

    def _draw(self, painter: QPainter, row: int, box: QRectF, step: int) -> None:
        theme, is_cursor = current_theme(), row == self._cursor
        if is_cursor:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("accent"))
            tall = max(box.height() - 2, QFontMetricsF(painter.font()).height())
            mark = QRectF(2, box.center().y() - tall / 2, box.width() - 5, tall)
            painter.drawRoundedRect(mark, 4, 4)
        is_end = row in (0, len(self._labels) - 1)
        crowds = (
            abs(row - self._cursor) < step or row < step or row > len(self._labels) - 1 - step
        )
        if not is_cursor and step > 1 and (row % step or crowds) and not is_end:
            return
        painter.setPen(
            theme.colour("on_accent" if is_cursor else "text" if is_end else "muted")
        )
        tall_box = QRectF(box.left(), box.center().y() - 20, box.width() - 10, 40)
        painter.drawText(
            tall_box,
            Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter,
            self._labels[row],
        )
