"""What is given to the model: the text as typed, and the tokens that it becomes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSignalBlocker, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QKeyEvent, QKeySequence, QTextCursor
from PySide6.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QPlainTextEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from microscope.views.guard import guarded, guarded_else
from microscope.views.notice import Notice
from microscope.views.token_strip import TokenStrip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PySide6.QtGui import QResizeEvent

    from microscope.core.cards import ModelCard
    from microscope.core.prompts import Token
    from microscope.session.session import Cursor, Place, Session
    from microscope.session.setup import Setup

_MOST_LINES = 3


class GrowingEdit(QPlainTextEdit):
    """A plain text field as high as its text, from one line to three."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTabChangesFocus(True)
        self.setUndoRedoEnabled(False)  # the window undoes every change, in one order
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(2)
        self.textChanged.connect(self.fit)
        self.fit()

    def fit(self) -> None:
        """Take the height of the lines there are."""
        lines = min(max(round(self.document().size().height()), 1), _MOST_LINES)
        # Lines are as high as a fraction of a pixel makes them, or the last does not quite fit.
        spacing = QFontMetricsF(self.font()).lineSpacing()
        self.setFixedHeight(math.ceil(lines * spacing) + 16)

    @guarded_else(False)
    def event(self, event: QEvent) -> bool:
        """Leave undo and redo to the window's menu."""
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent):
            keys = QKeySequence.StandardKey
            if event.matches(keys.Undo) or event.matches(keys.Redo):
                event.ignore()
                return False
        return super().event(event)

    @guarded
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Follow the room there is."""
        super().resizeEvent(event)
        self.fit()

    @guarded
    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.fit()


class PromptPanel(QWidget):
    """Shows `session.setup.prompt` and `session.tokens`; emits what is typed and clicked."""

    prompt_changed = Signal(str)
    chat_chosen = Signal(bool)
    token_chosen = Signal(int)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = GrowingEdit()
        self._edit.setPlaceholderText("Type a prompt, for example: The capital of France is")
        self._edit.setAccessibleName("Prompt")
        self._chat = QCheckBox("Chat template")
        self._chat.setToolTip("Wrap the text as one user turn, the way this model was trained.")
        self._strip, self._notice = TokenStrip(), Notice()
        self.setFocusProxy(self._edit)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._lay_out()
        self._edit.textChanged.connect(self._on_typed)
        self._chat.toggled.connect(self.chat_chosen)
        self._strip.token_chosen.connect(self.token_chosen)
        self._follow(session)

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.addWidget(self._edit, 1)
        line.addWidget(self._chat, alignment=Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 2, 10, 4)
        layout.setSpacing(6)
        layout.addLayout(line)
        layout.addWidget(self._strip)
        layout.addWidget(self._notice)

    def _follow(self, session: Session) -> None:
        events = session.events
        events.setup.connect(self._show_setup)
        events.model.connect(self._show_model)
        events.tokens.connect(self._show_tokens)
        events.cursor.connect(self._show_cursor)
        events.failures.connect(self._show_failures)
        self._show_setup(session.setup)
        self._show_model(session.model)
        self._show_tokens(session.tokens)
        self._show_cursor(session.cursor)
        self._show_failures(session.failures)

    def _show_setup(self, setup: Setup) -> None:
        with QSignalBlocker(self._chat):
            self._chat.setChecked(setup.prompt.is_chat)
        if setup.prompt.text == self._edit.toPlainText():
            return
        with QSignalBlocker(self._edit):
            self._edit.setPlainText(setup.prompt.text)
        self._edit.moveCursor(QTextCursor.MoveOperation.End)
        self._edit.fit()

    def _show_model(self, model: ModelCard | None) -> None:
        self._chat.setVisible(model is not None and model.has_chat_template)

    def _show_tokens(self, tokens: tuple[Token, ...]) -> None:
        self._strip.show_tokens(tokens)

    def _show_cursor(self, cursor: Cursor) -> None:
        self._strip.show_cursor(cursor.token)

    def _show_failures(self, failures: Mapping[Place, str]) -> None:
        self._notice.say(failures.get("prompt", ""))

    def _on_typed(self) -> None:
        self.prompt_changed.emit(self._edit.toPlainText())
