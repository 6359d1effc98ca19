"""Running text made of tokens: each may be tinted, marked, and asked about by hovering."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit, QToolTip, QWidget

from microscope.views.guard import guarded, guarded_else
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QHelpEvent

_FULL_TINT = 0.45  # opacity of the strongest tint, so that the words stay readable
_TINT_STEPS = 20


class Fragment(NamedTuple):
    """A token as drawn. `tint` runs from 0 to 1; `facts` is its tooltip."""

    text: str
    facts: str = ""
    is_muted: bool = False
    is_changed: bool = False
    tint: float = 0.0


class FlowingText(QTextEdit):
    """Read-only; an update rewrites only what follows the part that stayed the same."""

    def __init__(self, mark: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._mark = mark  # the theme's colour for tint and changed words
        self._fragments: tuple[Fragment, ...] = ()
        self._starts = [0]  # document positions, one more than fragments
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setProperty("role", "written")
        self.setMinimumHeight(60)

    def show_fragments(self, fragments: Sequence[Fragment]) -> None:
        """Replace the text."""
        new = tuple(fragments)
        pairs = zip(self._fragments, new, strict=False)
        kept = next((i for i, (old, now) in enumerate(pairs) if _looks_other(old, now)), None)
        if kept is None:
            kept = min(len(self._fragments), len(new))
        self._fragments = new
        self._rewrite_from(kept)

    def _rewrite_from(self, kept: int) -> None:
        bar = self.verticalScrollBar()
        was_at_end = bar.value() == bar.maximum()
        cursor = QTextCursor(self.document())
        cursor.beginEditBlock()
        cursor.setPosition(self._starts[kept])
        cursor.movePosition(QTextCursor.MoveOperation.End, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()
        del self._starts[kept + 1 :]
        for row in range(kept, len(self._fragments)):
            self._append(cursor, row)
            self._starts.append(cursor.position())
        cursor.endEditBlock()
        if was_at_end:  # what is being written stays in view
            bar.setValue(bar.maximum())

    def _append(self, cursor: QTextCursor, row: int) -> None:
        fragment = self._fragments[row]
        text = fragment.text.replace("\r", "")
        word = text.lstrip(" ")
        goes_on = row > 0 and self._fragments[row - 1].is_changed
        if fragment.is_changed and not goes_on:  # no line under the space before a change
            plain = self._format(fragment._replace(is_changed=False))
            cursor.insertText(text[: len(text) - len(word)], plain)
            text = word
        cursor.insertText(text, self._format(fragment))

    def _format(self, fragment: Fragment) -> QTextCharFormat:
        theme, made = current_theme(), QTextCharFormat()
        made.setForeground(theme.colour("muted" if fragment.is_muted else "text"))
        if fragment.is_changed:
            made.setForeground(theme.colour(self._mark))
            made.setUnderlineStyle(QTextCharFormat.UnderlineStyle.SingleUnderline)
            made.setUnderlineColor(theme.colour(self._mark))
        steps = round(fragment.tint * _TINT_STEPS)
        if steps:
            made.setBackground(theme.colour(self._mark, steps / _TINT_STEPS * _FULL_TINT))
        return made

    def fragment_at(self, position: int) -> Fragment | None:
        """The token that holds a document position."""
        row = bisect_right(self._starts, position) - 1
        return self._fragments[row] if 0 <= row < len(self._fragments) else None

    @guarded_else(QSize(200, 90))
    def sizeHint(self) -> QSize:
        """The size it would like."""
        return QSize(200, 90)

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_starts"):
            self._rewrite_from(0)

    @guarded_else(True)
    def viewportEvent(self, event: QEvent) -> bool:
        """Answer the wish for a tooltip."""
        if event.type() == QEvent.Type.ToolTip:
            self._show_tip(event)  # type: ignore[arg-type]  # a ToolTip is a QHelpEvent
            return True
        return super().viewportEvent(event)

    def _show_tip(self, event: QHelpEvent) -> None:
        place = event.pos()
        # hitTest knows the glyph under the mouse; cursorForPosition rounds to the nearer gap
        spot = place.toPointF()
        spot.setX(spot.x() + self.horizontalScrollBar().value())
        spot.setY(spot.y() + self.verticalScrollBar().value())
        layout = self.document().documentLayout()
        position = layout.hitTest(spot, Qt.HitTestAccuracy.ExactHit)
        fragment = None if position < 0 else self.fragment_at(position)
        QToolTip.showText(event.globalPos(), fragment.facts if fragment else "", self)


def _looks_other(old: Fragment, new: Fragment) -> bool:
    tints = (round(f.tint * _TINT_STEPS) for f in (old, new))
    return old[0] != new[0] or old[2:4] != new[2:4] or len(set(tints)) > 1
