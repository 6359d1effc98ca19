"""The library in the whole program: opened from the menu, it looks, lists and opens."""

import sys

import pytest
from PySide6.QtWidgets import QDockWidget, QTableView
from test_app import FakeShelf

from microscope.app import Microscope
from microscope.core.prompts import Prompt
from microscope.session.setup import Setup
from microscope.storage.preferences import UnsavedPreferences
from microscope.views.library_dialog import MODELS, LibraryDialog
from microscope.views.library_panel import LibraryPanel

FAKE = [sys.executable, "-m", "microscope.engine", "--fake"]
TIMEOUT_MS = 30_000


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1}')
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    weights = len(header).to_bytes(8, "little") + header + bytes(12)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_model_is_found_opened_from_the_library_and_remembered(qtbot, qapp, model_folder):
    preferences = UnsavedPreferences()
    preferences.keep(library_folders=(str(model_folder.parent),))
    setup = Setup(model="fake-model", prompt=Prompt("one two"), max_new_tokens=4)
    scope = Microscope(lambda: setup, FakeShelf(), engine_command=FAKE, preferences=preferences)
    try:
        scope.window.show()
        scope.start()
        qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)
        assert preferences.settings.recent_models == ("fake-model",)
        scope.window._actions["library"].trigger()
        library = scope.library.library
        assert library.is_looking
        qtbot.waitUntil(lambda: not library.is_looking, timeout=TIMEOUT_MS)
        dialog = scope.window.findChild(LibraryDialog)
        assert dialog.isVisible()
        dialog._tabs.button(MODELS).click()
        row = dialog._models.row_of(str(model_folder))
        dialog._model_table.selectRow(row)
        dialog._detail._as.setCurrentIndex(1)
        dialog._detail._action.click()
        assert not dialog.isVisible()
        assert scope.session.setup.model == str(model_folder)
        assert scope.session.setup.dtype == "bfloat16"
        qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)
        assert preferences.settings.recent_models[0] == str(model_folder)
        scope.window._actions["library"].trigger()  # the same dialog again
        assert scope.window.findChildren(LibraryDialog) == [dialog]
    finally:
        scope.close()


def test_the_library_s_panel_is_offered_and_opens_a_model(qtbot, qapp, model_folder):
    preferences = UnsavedPreferences()
    preferences.keep(library_folders=(str(model_folder.parent),))
    setup = Setup(model="fake-model", prompt=Prompt("one two"), max_new_tokens=4)
    scope = Microscope(lambda: setup, FakeShelf(), engine_command=FAKE, preferences=preferences)
    try:
        scope.window.show()
        scope.start()
        qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)
        dock = next(
            d for d in scope.window.findChildren(QDockWidget) if d.windowTitle() == "Library"
        )
        assert not dock.isVisible()
        dock.toggleViewAction().trigger()
        library = scope.library.library
        qtbot.waitUntil(lambda: library.contents.models != (), timeout=TIMEOUT_MS)
        table = dock.findChild(LibraryPanel).findChild(QTableView)
        row = table.model().row_of(str(model_folder))
        table.activated.emit(table.model().index(row, 0))
        assert scope.session.setup.model == str(model_folder)
        scope.window._actions["reset_layout"].trigger()
        assert not dock.isVisible()
    finally:
        scope.close()
