"""The check-up in plain words: what was measured, and whether it is as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from microscope.session.badge import checkup_heading
from microscope.views.notice import label
from microscope.views.theme import current_theme

if TYPE_CHECKING:
    from microscope.core.checkup import Finding
    from microscope.session.session import Session


class CheckupDialog(QDialog):
    """Lists the session's findings as they come; asks for another check-up."""

    check_requested = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.setWindowTitle("Check-up of the model and its SAEs")
        self._heading = label("", "sentence")
        self._heading.setWordWrap(True)
        self._list = QScrollArea()
        self._list.setWidgetResizable(True)
        self._again = QPushButton("Check again")
        self._again.clicked.connect(self._on_again)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.addButton(self._again, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        for widget in (self._heading, self._list, buttons):
            layout.addWidget(widget)
        self.resize(680, 520)
        self._follow()

    def _follow(self) -> None:
        events = self._session.events
        events.checkup.connect(self._show)
        events.is_checking_up.connect(self._show)
        events.failures.connect(self._show)
        events.model.connect(self._show)
        self._show()

    def _show(self) -> None:
        session = self._session
        heading = checkup_heading(
            session.checkup,
            is_checking=session.is_checking_up,
            failure=session.failures.get("checkup", ""),
        )
        self._heading.setText(heading)
        self._again.setEnabled(session.model is not None and not session.is_checking_up)
        self._list.setWidget(_rows(session.checkup))

    def _on_again(self) -> None:
        self.check_requested.emit()


def _rows(findings: tuple[Finding, ...]) -> QWidget:
    """A dot, a name and a sentence for every finding; those that did not pass come first."""
    rows = QWidget()
    grid = QGridLayout(rows)
    grid.setColumnStretch(1, 1)
    grid.setVerticalSpacing(10)
    for row, finding in enumerate(sorted(findings, key=lambda found: found.passed)):
        text = QLabel(f"{finding.name}\n{finding.sentence}")
        text.setTextFormat(Qt.TextFormat.PlainText)
        text.setWordWrap(True)
        text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        grid.addWidget(_dot(finding), row, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(text, row, 1)
    grid.setRowStretch(len(findings), 1)
    return rows


def _dot(finding: Finding) -> QLabel:
    colour = current_theme().colour("good" if finding.passed else "caution").name()
    dot = QLabel(f'<span style="color:{colour}">●</span>')
    dot.setAccessibleName("passed" if finding.passed else "not passed")
    return dot
