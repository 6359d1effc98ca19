"""The library's panel lists what is here and asks for what is double-clicked."""

import gc
import weakref

import pytest
from library_cases import full_library
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QLineEdit, QPushButton, QTableView

from microscope.core.library import LibraryContents
from microscope.session.library import Library
from microscope.session.library_view import model_entries
from microscope.views.library_panel import LibraryPanel


@pytest.fixture
def library():
    return full_library()


@pytest.fixture
def panel(qtbot, library):
    panel = LibraryPanel(library)
    qtbot.addWidget(panel)
    panel.resize(420, 400)
    return panel


def rows_of(panel):
    table = panel.findChild(QTableView)
    return [table.model().entry(row).key for row in range(table.model().rowCount())]


def test_it_lists_the_models_of_the_library_and_follows_it(panel, library):
    assert rows_of(panel) == [entry.key for entry in model_entries(library)]
    assert rows_of(panel)
    library.contents = LibraryContents()
    assert rows_of(panel) == []
    assert panel._pages.currentWidget() is panel._none


def test_typing_filters(qtbot, panel, library):
    words = model_entries(library)[0].title.split("/")[-1]
    qtbot.keyClicks(panel.findChild(QLineEdit), words)
    assert rows_of(panel) == [entry.key for entry in model_entries(library, words)]
    assert len(rows_of(panel)) < len(model_entries(library))


def test_enter_asks_for_a_model_and_opens_nothing_itself(qtbot, panel, library):
    table = panel.findChild(QTableView)
    healthy = next(e for e in model_entries(library) if e.is_here and not e.problem)
    row = table.model().row_of(healthy.key)
    with qtbot.waitSignal(panel.model_requested) as asked:
        table.activated.emit(table.model().index(row, 0))
    assert asked.args == [healthy.key]


def test_a_damaged_model_is_not_asked_for(qtbot, panel, library):
    table = panel.findChild(QTableView)
    damaged = next(entry for entry in model_entries(library) if entry.problem)
    row = table.model().row_of(damaged.key)
    with qtbot.assertNotEmitted(panel.model_requested):
        table.activated.emit(table.model().index(row, 0))


def test_the_button_asks_for_the_whole_library(qtbot, panel):
    button = next(b for b in panel.findChildren(QPushButton) if "Whole" in b.text())
    with qtbot.waitSignal(panel.library_requested):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_showing_it_asks_for_a_fresh_look(qtbot, panel):
    with qtbot.waitSignal(panel.opened):
        panel.show()


def test_a_deleted_panel_is_forgotten_by_the_library(qapp):
    library = Library()
    panel = LibraryPanel(library)
    ref = weakref.ref(panel)
    panel.deleteLater()
    del panel
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert ref() is None
    library.is_looking = True
