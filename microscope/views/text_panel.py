"""What the model writes: without clamps on the left, with them on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from microscope.session.derived import (
    Tint,
    changed_spans,
    positions_in,
    tint_strength,
    written_facts,
)
from microscope.views.flowing_text import FlowingText, Fragment
from microscope.views.notice import ElidedLabel, Notice, label
from microscope.views.sampler_bar import SamplerBar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from microscope.session.session import Place, Session, WrittenToken
    from microscope.session.setup import Setup

_NO_PROMPT = "The text appears here once a prompt is typed."
_NO_CLAMPS = "Hold a feature to see the text change here."
_TINT_TIP = (
    "Probability: the less expected a token was, the stronger its tint.\n"
    "KL: how far the clamps moved the model's whole distribution there (steered text)."
)


class TextPanel(QWidget):
    """Shows `session.baseline` and `session.steered`; emits what the sampler bar asks."""

    sampler_changed = Signal(object)
    seed_changed = Signal(object)
    length_changed = Signal(int)
    regenerate_requested = Signal()
    stop_requested = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._old_texts = (session.baseline, session.steered)  # when writing began
        self._baseline, self._steered = FlowingText("accent"), FlowingText("steered")
        self._baseline.setPlaceholderText(_NO_PROMPT)
        self._baseline.setAccessibleName("Baseline text")
        self._steered.setPlaceholderText(_NO_CLAMPS)
        self._steered.setAccessibleName("Steered text")
        self._tint, self._bar, self._notice = QComboBox(), SamplerBar(), Notice()
        for title, tint in (("no tint", "none"), ("probability", "probability"), ("KL", "kl")):
            self._tint.addItem(title, tint)
        self._tint.setToolTip(_TINT_TIP)
        self._tint.setAccessibleName("Tint words by")
        self._progress, self._state = QProgressBar(), label("", "hint")
        self._progress.setTextVisible(False)
        self._progress.setFixedSize(90, 8)
        self._lay_out()
        self._connect()
        self._follow()

    def _lay_out(self) -> None:
        texts = QHBoxLayout()
        texts.setSpacing(10)
        working, tinting = (self._state, self._progress), (label("tint", "hint"), self._tint)
        sides = (
            _side("baseline", "without clamps", "side", self._baseline, *working),
            _side("steered", "changes underlined", "side-steered", self._steered, *tinting),
        )
        for side in sides:
            texts.addLayout(side, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 6, 10, 8)
        layout.setSpacing(6)
        layout.addWidget(self._notice)
        layout.addLayout(texts, 1)
        layout.addWidget(self._bar)

    def _connect(self) -> None:
        self._tint.currentIndexChanged.connect(self._show_texts)
        self._bar.sampler_changed.connect(self.sampler_changed)
        self._bar.seed_changed.connect(self.seed_changed)
        self._bar.length_changed.connect(self.length_changed)
        self._bar.regenerate_requested.connect(self.regenerate_requested)
        self._bar.stop_requested.connect(self.stop_requested)

    def _follow(self) -> None:
        events = self._session.events
        events.baseline.connect(self._show_texts)
        events.steered.connect(self._show_texts)
        events.tokens.connect(self._show_texts)
        events.is_writing.connect(self._show_writing)
        events.setup.connect(self._show_setup)
        events.failures.connect(self._show_failures)
        self._show_setup(self._session.setup)
        self._show_writing(self._session.is_writing)
        self._show_failures(self._session.failures)

    def _show_texts(self) -> None:
        session = self._session
        is_steered = any(not clamp.is_muted for clamp in session.setup.clamps)
        baseline, steered = session.baseline, session.steered if is_steered else ()
        if session.is_writing:  # what has no counterpart yet is not a difference
            both = min(len(baseline), len(steered))
            compared = baseline[:both], steered[:both]
        else:
            compared = baseline, steered
        changes = changed_spans(*([w.token.id for w in side] for side in compared))
        is_compared = bool(steered)
        marked = positions_in(changes.baseline) if is_compared else frozenset()
        self._baseline.show_fragments(self._fragments(baseline, marked))
        marked = positions_in(changes.steered)
        self._steered.show_fragments(self._fragments(steered, marked) if is_compared else ())
        self._show_progress()

    def _fragments(
        self, written: Sequence[WrittenToken], marked: frozenset[int]
    ) -> list[Fragment]:
        tint = cast("Tint", self._tint.currentData())
        prompt = [
            Fragment(token.text, f"prompt\ntoken id {token.id}", is_muted=True)
            for token in self._session.tokens
            if not token.is_special
        ]
        return prompt + [
            Fragment(
                token.token.text,
                written_facts(token),
                is_muted=token.token.is_special,  # an end token is not a word
                is_changed=place in marked and not token.token.is_special,
                tint=tint_strength(token, tint),
            )
            for place, token in enumerate(written)
        ]

    def _show_progress(self) -> None:
        session = self._session
        most = session.setup.max_new_tokens
        done = self._n_written()
        self._progress.setVisible(session.is_writing)
        self._progress.setRange(0, most)
        self._progress.setValue(min(done, most))
        self._state.setText(f"writing {done} of {most}" if session.is_writing else "")

    def _n_written(self) -> int:
        """Tokens of the text that is being written; what stands there from before is not."""
        old_baseline, old_steered = self._old_texts
        session = self._session
        if session.steered is not old_steered:
            return len(session.steered)
        return 0 if session.baseline is old_baseline else len(session.baseline)

    def _show_writing(self, is_writing: bool) -> None:
        self._old_texts = (self._session.baseline, self._session.steered)
        self._bar.show_writing(is_writing)
        self._show_texts()

    def _show_setup(self, setup: Setup) -> None:
        self._bar.show_setup(setup)
        is_steered = any(not clamp.is_muted for clamp in setup.clamps)
        self._steered.setPlaceholderText(_NO_PROMPT if is_steered else _NO_CLAMPS)
        self._show_texts()

    def _show_failures(self, failures: Mapping[Place, str]) -> None:
        said = failures.get("text", "")
        is_said_above = said == failures.get("prompt")  # once is enough
        self._notice.say("" if is_said_above else said)


def _side(title: str, hint: str, role: str, text: FlowingText, *tools: QWidget) -> QVBoxLayout:
    layout, head = QVBoxLayout(), QHBoxLayout()
    layout.setSpacing(4)
    head.addStrut(30)  # as high without the tools
    head.addWidget(label(title, role))
    head.addWidget(ElidedLabel(hint, "hint"), 1)
    for tool in tools:
        head.addWidget(tool)
    layout.addLayout(head)
    layout.addWidget(text, 1)
    return layout
