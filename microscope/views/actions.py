"""Menus and shortcuts as data; a window says what each action does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PySide6.QtGui import QAction, QKeySequence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PySide6.QtWidgets import QMenu, QMenuBar


class ActionSpec(NamedTuple):
    """An entry of a menu. `name` is what the window knows it by."""

    name: str
    title: str
    shortcut: str = ""
    tip: str = ""
    is_checkable: bool = False


SEPARATOR = ActionSpec("", "")

MENUS: dict[str, tuple[ActionSpec, ...]] = {
    "&File": (
        ActionSpec("library", "&Library…", "Ctrl+L", "Models and SAEs, here and to be had"),
        ActionSpec("open_model", "Open &model folder…", "Ctrl+O", "A folder with config.json"),
        ActionSpec("open_saes", "Open &SAE folder…", "Ctrl+Shift+O", "A folder with an SAE"),
        SEPARATOR,
        ActionSpec("import_labels", "Import &labels…", tip="What features mean, from a file"),
        ActionSpec("import_label_folder", "Import labels from a &folder…"),
        SEPARATOR,
        ActionSpec("save_picture", "Save &picture…", "Ctrl+Shift+S", "This window as PNG"),
        SEPARATOR,
        ActionSpec("quit", "&Quit", "Ctrl+Q"),
    ),
    "&Edit": (
        ActionSpec("undo", "&Undo", "Ctrl+Z"),
        ActionSpec("redo", "&Redo", "Ctrl+Shift+Z"),
    ),
    "&View": (
        ActionSpec("dark", "&Dark", tip="Light on dark", is_checkable=True),
        ActionSpec("light", "&Light", tip="Dark on light", is_checkable=True),
        SEPARATOR,
        ActionSpec("larger", "L&arger text", "Ctrl++"),
        ActionSpec("smaller", "&Smaller text", "Ctrl+-"),
        ActionSpec("usual", "&Usual text size", "Ctrl+0"),
        SEPARATOR,
        ActionSpec("reset_layout", "&Reset layout", tip="Put every panel back"),
    ),
    "&Run": (
        ActionSpec("regenerate", "&Write again", "Ctrl+Return"),
        ActionSpec("stop", "&Stop", "Ctrl+."),
        SEPARATOR,
        ActionSpec("checkup", "&Check-up…", tip="Is the picture of the model exact?"),
        ActionSpec("restart_engine", "&Restart engine"),
    ),
    "&Help": (
        ActionSpec("glossary", "&What am I looking at?", "F1", "The words used here"),
        ActionSpec("about", "&About Microscope"),
    ),
}


def build_menus(
    bar: QMenuBar, does: Mapping[str, Callable[[], object]]
) -> tuple[dict[str, QMenu], dict[str, QAction]]:
    """Fill a menu bar; menus come back by title, actions by name.

    Raises:
        KeyError: an action has nothing to do.
    """
    menus, actions = {}, {}
    for title, specs in MENUS.items():
        menu = menus[title] = bar.addMenu(title)
        menu.setToolTipsVisible(True)
        for spec in specs:
            if spec is SEPARATOR:
                menu.addSeparator()
            else:
                actions[spec.name] = _built(spec, menu, does[spec.name])
    return menus, actions


def _built(spec: ActionSpec, menu: QMenu, does: Callable[[], object]) -> QAction:
    action = QAction(spec.title, menu)
    action.setShortcut(QKeySequence(spec.shortcut))
    action.setCheckable(spec.is_checkable)
    if spec.tip:
        action.setToolTip(spec.tip)
    action.triggered.connect(does)
    menu.addAction(action)
    return action
