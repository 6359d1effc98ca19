"""The window: places the panels, passes on what they ask, and decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, Qt, QTimer, Signal
from PySide6.QtGui import QActionGroup, QIcon
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QFrame,
    QMainWindow,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from microscope.views.actions import build_menus
from microscope.views.checkup_dialog import CheckupDialog
from microscope.views.clamps_panel import ClampsPanel
from microscope.views.dialogs import about_box, ask_folder, ask_picture_path, glossary_dialog
from microscope.views.features_panel import FeaturesPanel
from microscope.views.guard import guarded
from microscope.views.heatmap_panel import HeatmapPanel
from microscope.views.icons import icon_path
from microscope.views.label_dialogs import ask_label_file, ask_sae
from microscope.views.panel_title import PanelTitle
from microscope.views.prompt_panel import PromptPanel
from microscope.views.status_bar import StatusBar
from microscope.views.text_panel import TextPanel
from microscope.views.theme import apply_theme, current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QShowEvent

    from microscope.session.session import Session
    from microscope.views.intentions import Intentions
    from microscope.views.theme import ThemeName

LAYOUT_VERSION = 1
_SCALE_STEP, _LEAST_SCALE, _MOST_SCALE = 0.1, 0.7, 2.0
_Area = Qt.DockWidgetArea


class MainWindow(QMainWindow):
    """Prompt above, features left, layers in the middle, clamps and text below.

    `layout_changed` carries bytes at closing that a later window takes as `layout`.
    """

    layout_changed = Signal(bytes)
    theme_changed = Signal(str, float)
    library_requested = Signal()

    def __init__(
        self, session: Session, intentions: Intentions, layout: bytes | None = None
    ) -> None:
        super().__init__()
        self._session, self._intentions = session, intentions
        self.setWindowTitle("Microscope")
        self.setWindowIcon(QIcon(str(icon_path("app"))))
        self.setAcceptDrops(True)
        self.setDockNestingEnabled(True)
        self._prompt, self._heatmap = PromptPanel(session), HeatmapPanel(session)
        self._features, self._clamps = FeaturesPanel(session), ClampsPanel(session)
        self._text, self._status = TextPanel(session), StatusBar(session)
        self._further_docks: list[QDockWidget] = []
        self._place_panels()
        self._build_menus()
        self._connect_panels()
        self._follow()
        self._usual_layout = self.saveState(LAYOUT_VERSION)
        self._has_layout = layout is not None and self.restoreState(
            QByteArray(layout), LAYOUT_VERSION
        )
        self.resize(1600, 1000)
        self._prompt.setFocus()

    # -- places -------------------------------------------------------------------------

    def _place_panels(self) -> None:
        self.setCorner(Qt.Corner.TopLeftCorner, _Area.TopDockWidgetArea)
        self.setCorner(Qt.Corner.BottomLeftCorner, _Area.BottomDockWidgetArea)
        self.setCorner(Qt.Corner.BottomRightCorner, _Area.BottomDockWidgetArea)
        middle = _framed(
            self._heatmap,
            PanelTitle(
                "Layers", "what the model would say next after each word, layer by layer"
            ),
        )
        self.setCentralWidget(middle)
        self._docks = [
            self._dock("Prompt", "what the model is given, and the tokens it becomes",
                       self._prompt, _Area.TopDockWidgetArea),
            self._dock("Features", "what is on inside the model at the cursor",
                       self._features, _Area.LeftDockWidgetArea),
            self._dock("Clamps", "features held at a value: drag, and the text is rewritten",
                       self._clamps, _Area.BottomDockWidgetArea),
            self._dock("Text", "what the model writes without and with the clamps",
                       self._text, _Area.BottomDockWidgetArea),
        ]  # fmt: skip
        self.setStatusBar(self._status)

    def _dock(
        self, title: str, hint: str, panel: QWidget, area: Qt.DockWidgetArea
    ) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title.lower())
        dock.setTitleBarWidget(PanelTitle(title, hint, dock))
        dock.setWidget(_framed(panel))
        dock.toggleViewAction().setToolTip(hint)
        self.addDockWidget(area, dock)
        return dock

    def add_panel(self, title: str, hint: str, panel: QWidget) -> None:
        """Offer one more panel at the left; it is hidden until the View menu shows it."""
        dock = self._dock(title, hint, panel, _Area.LeftDockWidgetArea)
        dock.hide()
        self._further_docks.append(dock)
        if self._has_layout:
            self.restoreDockWidget(dock)
        self._panel_menu.insertAction(self._after_panels, dock.toggleViewAction())

    def _share_out(self) -> None:
        """Give each panel its share of the window as it is now."""
        _, features, clamps, text = self._docks
        width, height = self.width(), self.height()
        self.resizeDocks([features], [max(width * 27 // 100, 380)], Qt.Orientation.Horizontal)
        halves = [width * 38 // 100, width * 62 // 100]
        self.resizeDocks([clamps, text], halves, Qt.Orientation.Horizontal)
        low = max(height * 27 // 100, 246)
        self.resizeDocks([clamps, text], [low, low], Qt.Orientation.Vertical)

    def _build_menus(self) -> None:
        asked = self._intentions
        menus, self._actions = build_menus(
            self.menuBar(),
            {
                "library": self._on_library,
                "open_model": self._on_open_model,
                "open_saes": self._on_open_saes,
                "import_labels": self._on_import_labels,
                "import_label_folder": self._on_import_label_folder,
                "save_picture": self._on_save_picture,
                "quit": self.close,
                "undo": asked.undo,
                "redo": asked.redo,
                "dark": self._on_dark,
                "light": self._on_light,
                "larger": self._on_larger,
                "smaller": self._on_smaller,
                "usual": self._on_usual,
                "reset_layout": self._on_reset_layout,
                "regenerate": asked.regenerate,
                "stop": asked.stop,
                "checkup": self._on_checkup,
                "restart_engine": asked.restart_engine,
                "glossary": self._on_glossary,
                "about": self._on_about,
            },
        )
        themes = QActionGroup(self)
        for name in ("dark", "light"):
            themes.addAction(self._actions[name])
        self._actions[current_theme().name].setChecked(True)
        view = menus["&View"]
        first = view.actions()[0]
        view.insertActions(first, [dock.toggleViewAction() for dock in self._docks])
        self._panel_menu, self._after_panels = view, view.insertSeparator(first)

    # -- wires --------------------------------------------------------------------------

    def _connect_panels(self) -> None:
        asked, prompt, features = self._intentions, self._prompt, self._features
        prompt.prompt_changed.connect(asked.set_prompt)
        prompt.chat_chosen.connect(asked.set_chat)
        prompt.token_chosen.connect(asked.choose_token)
        self._heatmap.cell_chosen.connect(asked.choose_cell)
        features.feature_chosen.connect(asked.choose_feature)
        features.clamp_requested.connect(asked.add_clamp)
        features.saes_requested.connect(self._on_open_saes)
        features.sae_closed.connect(asked.close_sae)
        self._status.restart_requested.connect(asked.restart_engine)
        self._status.checkup_requested.connect(self._on_checkup)
        self._connect_clamps()
        self._connect_text()

    def _connect_clamps(self) -> None:
        asked, clamps = self._intentions, self._clamps
        clamps.value_requested.connect(asked.set_clamp_value)
        clamps.mode_chosen.connect(asked.set_clamp_mode)
        clamps.mute_chosen.connect(asked.mute_clamp)
        clamps.removal_requested.connect(asked.remove_clamp)
        clamps.feature_chosen.connect(asked.choose_feature)
        clamps.gesture_ended.connect(asked.end_gesture)

    def _connect_text(self) -> None:
        asked, text = self._intentions, self._text
        text.sampler_changed.connect(asked.set_sampler)
        text.seed_changed.connect(asked.set_seed)
        text.length_changed.connect(asked.set_max_new_tokens)
        text.regenerate_requested.connect(asked.regenerate)
        text.stop_requested.connect(asked.stop)

    def _follow(self) -> None:
        events = self._session.events
        events.can_undo.connect(self._show_possible)
        events.can_redo.connect(self._show_possible)
        events.is_writing.connect(self._show_possible)
        self._show_possible()

    def _show_possible(self) -> None:
        session = self._session
        self._actions["undo"].setEnabled(session.can_undo)
        self._actions["redo"].setEnabled(session.can_redo)
        self._actions["stop"].setEnabled(session.is_writing)

    # -- menus --------------------------------------------------------------------------

    def _on_library(self) -> None:
        self.library_requested.emit()

    def _on_open_model(self) -> None:
        folder = ask_folder(self, "Open a model folder")
        if folder:
            self._intentions.open_model(folder)

    def _on_open_saes(self) -> None:
        folder = ask_folder(self, "Open an SAE folder")
        if folder:
            self._intentions.open_saes((folder,))

    def _on_import_labels(self) -> None:
        self._import_labels(ask_label_file(self))

    def _on_import_label_folder(self) -> None:
        self._import_labels(ask_folder(self, "Import labels from a folder"))

    def _import_labels(self, path: str) -> None:
        sae = ask_sae(self, [sae.name for sae in self._session.saes]) if path else None
        if sae is not None:
            self._intentions.import_labels(path, sae)

    def _on_save_picture(self) -> None:
        path = ask_picture_path(self)
        if path and not self.grab().save(path):
            self._status.showMessage(f"Cannot write {path}: choose another folder.", 10_000)

    def _on_dark(self) -> None:
        self._dress("dark", current_theme().scale)

    def _on_light(self) -> None:
        self._dress("light", current_theme().scale)

    def _on_larger(self) -> None:
        self._dress(current_theme().name, current_theme().scale + _SCALE_STEP)

    def _on_smaller(self) -> None:
        self._dress(current_theme().name, current_theme().scale - _SCALE_STEP)

    def _on_usual(self) -> None:
        self._dress(current_theme().name, 1.0)

    def _dress(self, name: ThemeName, scale: float) -> None:
        wanted = min(max(round(scale, 2), _LEAST_SCALE), _MOST_SCALE)
        if (name, wanted) == (current_theme().name, current_theme().scale):
            return
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        theme = apply_theme(app, name, wanted)
        self._status.refresh()
        self.theme_changed.emit(theme.name, theme.scale)

    def _on_reset_layout(self) -> None:
        for dock in self._further_docks:
            dock.hide()
        self.restoreState(self._usual_layout, LAYOUT_VERSION)
        self._share_out()

    def _on_checkup(self) -> None:
        dialog = CheckupDialog(self._session, self)
        dialog.check_requested.connect(self._intentions.check_up)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _on_glossary(self) -> None:
        dialog = glossary_dialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def _on_about(self) -> None:
        box = about_box(self)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()

    # -- Qt -----------------------------------------------------------------------------

    @guarded
    def showEvent(self, event: QShowEvent) -> None:
        """At first sight, and with no layout remembered, fit the panels to the window."""
        super().showEvent(event)
        if not self._has_layout:
            self._has_layout = True
            self._share_out()
        QTimer.singleShot(0, self, self._bring_up_detached)

    def _bring_up_detached(self) -> None:
        """Panels that were detached when the layout was kept came up before, so behind us."""
        for dock in self._docks:
            if dock.isFloating() and dock.isVisible():
                dock.hide()
                dock.show()

    @guarded
    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Welcome files and folders."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    @guarded
    def dropEvent(self, event: QDropEvent) -> None:
        """Open the dropped model, else the dropped SAEs."""
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        models = [path for path in paths if (Path(path) / "config.json").is_file()]
        if models:
            self._intentions.open_model(models[0])
        else:
            self._intentions.open_saes(tuple(paths))
        event.acceptProposedAction()

    @guarded
    def closeEvent(self, event: QCloseEvent) -> None:
        """Report the layout before going."""
        self.layout_changed.emit(bytes(self.saveState(LAYOUT_VERSION).data()))
        super().closeEvent(event)


def _framed(panel: QWidget, title: PanelTitle | None = None) -> QWidget:
    """A panel on its card, with room around and perhaps a title above."""
    outer = QWidget()
    outer.setSizePolicy(QSizePolicy.Policy.Preferred, panel.sizePolicy().verticalPolicy())
    layout = QVBoxLayout(outer)
    layout.setContentsMargins(2, 0, 2, 2)
    layout.setSpacing(0)
    if title is not None:
        layout.addWidget(title)
    card = QFrame()
    card.setProperty("role", "panel")
    inside = QVBoxLayout(card)
    inside.setContentsMargins(1, 1, 1, 1)
    inside.addWidget(panel)
    layout.addWidget(card, 1)
    return outer
