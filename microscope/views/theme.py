"""The only stylesheet: two themes, and what painters need to draw in them.

One cool accent marks what is neutral or baseline, one warm accent what is steered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette

from microscope.views.icons import icon_path

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

ThemeName = Literal["dark", "light"]
BASE_POINTS = 10.5
_SANS = (
    "Inter",
    "Noto Sans",
    "Segoe UI Variable Text",
    "Segoe UI",
    "SF Pro Text",
    "DejaVu Sans",
)


@dataclass(frozen=True)
class Theme:
    """Colours as "#rrggbb"; `scale` multiplies every text size."""

    name: ThemeName
    background: str
    surface: str
    raised: str
    border: str
    text: str
    muted: str
    accent: str
    on_accent: str
    steered: str
    good: str
    bad: str
    caution: str
    missing: str
    scale: float = 1.0

    def colour(self, role: str, alpha: float = 1.0) -> QColor:
        """One of the colours above, by its field's name, with an opacity from 0 to 1."""
        colour = QColor(getattr(self, role))
        colour.setAlphaF(alpha)
        return colour

    def font(self, factor: float = 1.0, is_bold: bool = False) -> QFont:
        """The window's font, `factor` times its usual size."""
        font = QFont(_families())
        font.setPointSizeF(BASE_POINTS * self.scale * factor)
        font.setBold(is_bold)
        return font


DARK = Theme(
    name="dark",
    background="#0f1319",
    surface="#171c25",
    raised="#232b38",
    border="#344052",
    text="#eef2f8",
    muted="#a3b0c2",
    accent="#6cb0ff",
    on_accent="#08131f",
    steered="#ffb052",
    good="#5fd39a",
    bad="#ff7b7b",
    caution="#f5b942",
    missing="#445268",
)
LIGHT = Theme(
    name="light",
    background="#eaedf2",
    surface="#ffffff",
    raised="#f0f3f7",
    border="#c6cedb",
    text="#12181f",
    muted="#4d5a6b",
    accent="#1a5fcc",
    on_accent="#ffffff",
    steered="#b04a00",
    good="#13744a",
    bad="#bb1e2d",
    caution="#8a5a00",
    missing="#b9c2cf",
)
THEMES: dict[ThemeName, Theme] = {"dark": DARK, "light": LIGHT}

_applied = [DARK]


def current_theme() -> Theme:
    """The theme last applied; painters ask for it each time they paint."""
    return _applied[0]


def apply_theme(app: QApplication, name: ThemeName, scale: float = 1.0) -> Theme:
    """Dress the whole application; every widget gets a `StyleChange` and repaints."""
    theme = Theme(**{**THEMES[name].__dict__, "scale": scale})
    _applied[0] = theme
    app.setStyle("Fusion")
    app.setFont(theme.font())
    app.setPalette(_palette(theme))
    app.setStyleSheet(_stylesheet(theme))
    return theme


def _families() -> list[str]:
    installed = set(QFontDatabase.families())
    return [family for family in _SANS if family in installed] or ["Sans Serif"]


def _palette(theme: Theme) -> QPalette:
    palette = QPalette()
    roles = QPalette.ColorRole
    for role, colour in (
        (roles.Window, theme.background),
        (roles.WindowText, theme.text),
        (roles.Base, theme.surface),
        (roles.AlternateBase, theme.raised),
        (roles.Text, theme.text),
        (roles.Button, theme.raised),
        (roles.ButtonText, theme.text),
        (roles.BrightText, theme.bad),
        (roles.Highlight, theme.accent),
        (roles.HighlightedText, theme.on_accent),
        (roles.Link, theme.accent),
        (roles.ToolTipBase, theme.raised),
        (roles.ToolTipText, theme.text),
        (roles.PlaceholderText, theme.muted),
        (roles.Mid, theme.border),
    ):
        palette.setColor(role, QColor(colour))
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(theme.muted))
    return palette


def _stylesheet(theme: Theme) -> str:
    small = BASE_POINTS * theme.scale * 0.88
    title = BASE_POINTS * theme.scale * 1.06
    values = {
        **theme.__dict__,
        "small": f"{small:.2f}pt",
        "title": f"{title:.2f}pt",
        "large": f"{title * 1.25:.2f}pt",
        "chevron": icon_path("chevron").as_posix(),
        "check": icon_path("check").as_posix(),
    }
    sheet = _SHEET
    for name, value in values.items():
        sheet = sheet.replace(f"@{name}@", str(value))
    return sheet


_SHEET = """
QMainWindow, QDialog, QMessageBox { background: @background@; }
QDialogButtonBox { dialogbuttonbox-buttons-have-icons: 0; }
QMainWindow::separator { background: @background@; width: 6px; height: 6px; }
QMainWindow::separator:hover { background: @accent@; }
QToolTip { background: @raised@; color: @text@; border: 1px solid @border@; padding: 5px; }

QMenuBar { background: @background@; color: @text@; padding: 2px 4px; }
QMenuBar::item { padding: 4px 10px; border-radius: 5px; background: transparent; }
QMenuBar::item:selected { background: @raised@; }
QMenu { background: @surface@; color: @text@; border: 1px solid @border@; padding: 5px; }
QMenu::item { padding: 5px 26px 5px 22px; border-radius: 4px; }
QMenu::item:selected { background: @accent@; color: @on_accent@; }
QMenu::item:disabled { color: @muted@; }
QMenu::separator { height: 1px; background: @border@; margin: 4px 8px; }

QStatusBar { background: @background@; color: @muted@; }
QStatusBar::item { border: none; }
QStatusBar QLabel { color: @muted@; }

*[role="panel"] { background: @surface@; border: 1px solid @border@; border-radius: 8px; }
*[role="row"] { background: @raised@; border-radius: 7px; }
*[role="chosen"] { background: @raised@; border: 1px solid @accent@; border-radius: 7px; }
*[role="row"] QComboBox, *[role="row"] QDoubleSpinBox { background: @surface@; }
QLabel { background: transparent; }
QLabel[role="title"] { color: @text@; font-size: @title@; font-weight: 600; }
QLabel[role="headline"] { color: @text@; font-size: @large@; font-weight: 600; }
QLabel[role="hint"] { color: @muted@; font-size: @small@; }
QLabel[role="sentence"] { color: @muted@; }
QLabel[role="side"] { color: @accent@; font-weight: 600; }
QLabel[role="side-steered"] { color: @steered@; font-weight: 600; }
QLabel[role="notice"] {
  background: @raised@; color: @text@; border-left: 4px solid @bad@; border-radius: 4px;
  padding: 6px 10px;
}

QPushButton, QToolButton {
  background: @raised@; color: @text@; border: 1px solid @border@; border-radius: 6px;
  padding: 4px 12px;
}
QToolButton { padding: 3px; }
QPushButton:hover, QToolButton:hover { border-color: @accent@; }
QPushButton:pressed, QToolButton:pressed { background: @border@; }
QPushButton:focus, QToolButton:focus { border-color: @accent@; }
QPushButton:disabled, QToolButton:disabled { color: @muted@; }
QPushButton[role="primary"] {
  background: @accent@; color: @on_accent@; border-color: @accent@; font-weight: 600;
}
QPushButton[role="primary"]:disabled {
  background: @raised@; color: @muted@; border-color: @border@;
}
QPushButton[role="tab"]:checked { background: @accent@; color: @on_accent@; }
QToolButton[role="flat"] { background: transparent; border-color: transparent; }
QToolButton[role="flat"]:hover { background: @raised@; border-color: @border@; }
QPushButton[role="name"] {
  background: transparent; border-color: transparent; font-weight: 600; text-align: left;
  padding: 4px 6px;
}
QPushButton[role="name"]:hover, QPushButton[role="name"]:focus { border-color: @accent@; }
QToolButton[role="flat"]:focus { border-color: @accent@; }

QAbstractScrollArea { background: transparent; border: none; }
QScrollArea > QWidget > QWidget { background: transparent; }

QLineEdit, QPlainTextEdit, QTextEdit, QSpinBox, QDoubleSpinBox, QComboBox {
  background: @raised@; color: @text@; border: 1px solid @border@; border-radius: 6px;
  padding: 3px 7px; selection-background-color: @accent@; selection-color: @on_accent@;
}
QSpinBox, QDoubleSpinBox { padding: 3px 4px; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 0; border: none; }
QAbstractSpinBox QLineEdit {
  border: none; border-radius: 0; padding: 0 5px; background: transparent;
}
QSpinBox:disabled, QDoubleSpinBox:disabled { color: @muted@; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus,
QComboBox:focus { border-color: @accent@; }
QTextEdit[role="written"] { background: @raised@; padding: 6px 8px; }
QComboBox::drop-down { border: none; width: 20px; }
QComboBox::down-arrow { image: url(@chevron@); width: 14px; height: 14px; }
QComboBox QAbstractItemView {
  background: @surface@; color: @text@; border: 1px solid @border@;
  selection-background-color: @accent@; selection-color: @on_accent@;
}
QCheckBox { color: @text@; spacing: 7px; background: transparent; }
QCheckBox::indicator {
  width: 15px; height: 15px; border: 1px solid @muted@; border-radius: 4px;
  background: @raised@;
}
QCheckBox::indicator:checked {
  background: @accent@; border-color: @accent@; image: url(@check@);
}
QCheckBox::indicator:focus { border-color: @accent@; }

QTableView {
  background: @surface@; color: @text@; border: none; outline: none;
  gridline-color: transparent; alternate-background-color: @surface@;
  selection-background-color: @raised@; selection-color: @text@;
}
QHeaderView { background: @surface@; }
QHeaderView::section {
  background: @surface@; color: @muted@; border: none; border-bottom: 1px solid @border@;
  padding: 3px 6px; font-size: @small@;
}

QScrollBar:vertical { background: transparent; width: 11px; margin: 1px; }
QScrollBar:horizontal { background: transparent; height: 11px; margin: 1px; }
QScrollBar::handle { background: @border@; border-radius: 4px; }
QScrollBar::handle:vertical { min-height: 28px; }
QScrollBar::handle:horizontal { min-width: 28px; }
QScrollBar::handle:hover { background: @muted@; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }

QProgressBar {
  background: @raised@; border: 1px solid @border@; border-radius: 5px; color: @text@;
  text-align: center;
}
QProgressBar::chunk { background: @accent@; border-radius: 4px; }
"""
