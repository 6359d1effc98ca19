"""Draws the feature list's bars, and the button that holds a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen
from PySide6.QtWidgets import QStyledItemDelegate

from microscope.session.derived import percent
from microscope.views.features_table_model import FeaturesTableModel
from microscope.views.guard import guarded
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtWidgets import QStyleOptionViewItem

    from microscope.views.features_table_model import AnyIndex


class ActivationDelegate(QStyledItemDelegate):
    """A full bar is the largest activation known, or the list's largest where none is."""

    @guarded
    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: AnyIndex) -> None:
        """Draw what is in view."""
        model = index.model()
        assert isinstance(model, FeaturesTableModel)
        cell, theme = model.activation(index.row()), current_theme()
        box = QRectF(option.rect).adjusted(3, 4, -6, -4)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.colour("raised"))
        painter.drawRoundedRect(box, 3, 3)
        share = cell.share_of_list if cell.share is None else cell.share
        painter.setBrush(theme.colour("accent", 0.30 if cell.share is None else 0.50))
        filled = QRectF(box)
        filled.setWidth(box.width() * min(max(share, 0.0), 1.0))
        painter.drawRoundedRect(filled, 3, 3)
        painter.setPen(theme.colour("text"))
        inner, middle = box.adjusted(6, 0, -6, 0), Qt.AlignmentFlag.AlignVCenter
        painter.drawText(inner, Qt.AlignmentFlag.AlignLeft | middle, f"{cell.value:.2f}")
        if cell.share is not None:
            painter.setFont(theme.font(0.88))
            painter.drawText(inner, Qt.AlignmentFlag.AlignRight | middle, percent(cell.share))
        painter.restore()


class HoldDelegate(QStyledItemDelegate):
    """A plus to hold the feature, or a dot where it is held already."""

    @guarded
    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: AnyIndex) -> None:
        """Draw what is in view."""
        model = index.model()
        assert isinstance(model, FeaturesTableModel)
        theme, centre = current_theme(), QRectF(option.rect).center()
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if model.is_held(index.row()):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("steered"))
            painter.drawEllipse(centre, 5, 5)
        else:
            painter.setPen(QPen(theme.colour("border"), 1))
            painter.setBrush(theme.colour("raised"))
            painter.drawRoundedRect(QRectF(centre.x() - 9, centre.y() - 9, 18, 18), 5, 5)
            painter.setPen(QPen(theme.colour("accent"), 1.6))
            for arm in (QPointF(4, 0), QPointF(0, 4)):
                painter.drawLine(centre - arm, centre + arm)
        painter.restore()
