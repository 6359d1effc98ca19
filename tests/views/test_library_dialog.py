"""The library's dialog shows what is here and to be had, and passes on what is asked."""

import gc
import inspect
import weakref

import pytest
from library_cases import full_library
from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QApplication

from microscope.core.library import FreeMemory, LibraryContents
from microscope.session.library import DownloadState, Library
from microscope.session.library_view import starter_entries
from microscope.views import library_dialog
from microscope.views.library_detail import BUSY_NOTE, OFFLINE_NOTE
from microscope.views.library_dialog import MODELS, RELEASES, LibraryDialog
from microscope.views.library_intentions import LibraryIntentions
from microscope.views.memory_bar import MemoryBar
from microscope.views.theme import apply_theme


class Asked(list):
    """Intentions that remember what was asked of them."""


def _remembering(name):
    return lambda self, *args: self.append((name, *args))


for _name, _member in vars(LibraryIntentions).items():
    if inspect.isfunction(_member) and not _name.startswith("_"):
        setattr(Asked, _name, _remembering(_name))


@pytest.fixture
def made(qtbot):
    def make(**fields):
        library, asked = full_library(**fields), Asked()
        dialog = LibraryDialog(library, asked)
        qtbot.addWidget(dialog)
        dialog.show()
        return dialog, library, asked

    return make


def button_of(dialog, name="Some"):
    return dialog._cards[name]._button


def action(dialog):
    return dialog._detail._action


def go(dialog, page):
    dialog._tabs.button(page).click()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_can_be_painted_full_and_empty(qtbot, theme):
    apply_theme(QApplication.instance(), theme)
    for library in (Library(), full_library()):
        dialog = LibraryDialog(library, Asked())
        qtbot.addWidget(dialog)
        dialog.show()
        for page in range(3):
            go(dialog, page)
            assert not dialog.grab().isNull()


def test_a_starter_that_is_here_opens_with_one_click_and_the_dialog_makes_way(made):
    dialog, _, asked = made()
    assert button_of(dialog).text() == "Open"
    button_of(dialog).click()
    assert asked == [("take_starter", "Some", "auto")]
    assert not dialog.isVisible()


def test_a_starter_that_is_not_here_is_fetched_with_one_click_and_the_dialog_stays(made):
    dialog, library, asked = made(contents=LibraryContents())
    assert button_of(dialog).text() == "Download and open"
    button_of(dialog).click()
    assert asked == [("take_starter", "Some", "auto")]
    assert dialog.isVisible()
    library.contents = full_library().contents
    assert button_of(dialog).text() == "Open"


def test_offline_nothing_can_be_downloaded_and_it_says_so(made):
    dialog, library, asked = made(contents=LibraryContents(), is_offline=True)
    assert not button_of(dialog).isEnabled()
    assert not action(dialog).isEnabled()
    assert dialog._detail._why_not.text() == OFFLINE_NOTE
    assert dialog._detail._why_not.isVisible()
    assert dialog._line._whole.startswith("Working offline")
    dialog._offline.click()
    assert asked == [("set_offline", False)]
    library.is_offline = False
    assert button_of(dialog).isEnabled()
    assert not dialog._detail._why_not.isVisible()
    assert asked == [("set_offline", False)]  # showing it asks for nothing


def test_a_download_is_shown_and_can_be_stopped(made):
    dialog, library, asked = made(contents=LibraryContents())
    assert not dialog._strip.isVisible()
    library.download = DownloadState("some/model", "Some")
    assert dialog._strip._bar.maximum() == 0
    library.download = DownloadState("some/model", "Some", 1000, 4000, "w.safetensors")
    assert dialog._strip._line._whole == "Some: 1.0 kB of 4.0 kB, w.safetensors"
    assert dialog._strip._bar.value() == 250
    assert not button_of(dialog).isEnabled()
    assert dialog._detail._why_not.text() == BUSY_NOTE
    dialog._strip._cancel.click()
    assert asked == [("cancel",)]
    library.download = None
    assert not dialog._strip.isVisible()


def test_a_failure_is_told_where_it_belongs(made):
    dialog, library, _ = made()
    assert not dialog._detail._notice.isVisible()
    library.failures = {"some/model": "The disk is full.", "other": "x"}
    assert dialog._detail._notice.text() == "The disk is full."


def test_a_model_that_does_not_fit_warns_and_offers_a_smaller_choice(made):
    dialog, _, asked = made()
    go(dialog, MODELS)
    dialog._model_table.selectRow(0)
    detail = dialog._detail
    assert "will not fit" in detail._sentence.text()
    assert detail._smaller.text() == "Take bfloat16"
    detail._smaller.click()
    assert "will not fit" not in detail._sentence.text()
    assert not detail._smaller.isVisible()
    action(dialog).click()
    assert asked == [("open_model", "/models/large", "bfloat16")]


def test_the_usual_choice_is_left_to_the_engine(made):
    dialog, _, asked = made()
    go(dialog, MODELS)
    dialog._model_table.selectRow(1)
    action(dialog).click()
    dialog._model_table.doubleClicked.emit(dialog._models.index(1, 0))
    assert asked == [("open_model", "some/model", "auto")] * 2


def test_a_damaged_model_tells_why_and_can_be_fetched_again(made):
    dialog, _, asked = made()
    go(dialog, MODELS)
    dialog._model_table.selectRow(2)
    assert "has no weights" in dialog._detail._notice.text()
    assert action(dialog).text() == "Download again"
    assert not dialog._detail._bar.isVisible()
    dialog._model_table.doubleClicked.emit(dialog._models.index(2, 0))
    action(dialog).click()
    assert asked == [("fetch_model", "broken/model")]


def test_saes_are_chosen_by_layer(made):
    dialog, _, asked = made()
    go(dialog, RELEASES)
    dialog._release_table.selectRow(0)
    layers = dialog._detail._layers
    texts = [layers.itemText(row) for row in range(layers.count())]
    assert texts[:2] == ["layer 0", "layer 1, here"]
    assert texts[-1] == "all 4 layers, 604 MB"
    assert layers.currentText() == "layer 1, here"
    assert action(dialog).text() == "Open"
    layers.setCurrentIndex(4)
    assert action(dialog).text() == "Download"
    action(dialog).click()
    layers.setCurrentIndex(3)
    action(dialog).click()
    assert asked == [
        ("fetch_saes", "some-saes", (0, 1, 2, 3)),
        ("open_saes", "some-saes", (3,)),
    ]


def test_a_search_leaves_what_fits_and_keeps_what_is_chosen(made):
    dialog, library, _ = made()
    go(dialog, RELEASES)
    dialog._release_table.selectRow(1)
    dialog._search.setText("circuit")
    assert dialog._releases.rowCount() == 1
    assert dialog._detail._title.text() == "other-transcoders"
    library.contents = LibraryContents()
    assert dialog._release_table.currentIndex().row() == 0
    dialog._search.setText("nothing like it")
    assert dialog._releases.rowCount() == 0
    assert dialog._detail._pages.currentIndex() == 0


def test_without_models_there_is_a_way_to_get_some(made, monkeypatch):
    monkeypatch.setattr(library_dialog, "ask_folder", lambda *_: "/models")
    dialog, library, asked = made(contents=LibraryContents())
    go(dialog, MODELS)
    assert dialog._no_models.isVisible()
    dialog._no_models.asked.emit()
    monkeypatch.setattr(library_dialog, "ask_folder", lambda *_: "")
    dialog._menu.actions()[0].trigger()
    assert asked == [("add_folder", "/models")]
    library.folders = ("/models",)
    dialog._menu.actions()[1].trigger()
    dialog._again.click()
    assert asked[1:] == [("remove_folder", "/models"), ("refresh",)]


def test_a_card_shows_more_of_a_starter_when_its_name_is_pressed(made):
    dialog, _, asked = made()
    dialog._chosen.clear()
    dialog._show_detail()
    assert dialog._detail._pages.currentIndex() == 0
    dialog._cards["Some"]._name.click()
    assert dialog._detail._title.text() == "Some"
    assert "needs" not in dialog._cards["Some"]._line._whole
    assert asked == []


def test_a_deleted_dialog_is_forgotten_by_the_library(qapp):
    library = full_library()
    dialog = LibraryDialog(library, Asked())
    dialog.grab()
    remembered = weakref.ref(dialog)
    dialog.deleteLater()
    del dialog
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert remembered() is None
    library.contents, library.download = LibraryContents(), DownloadState("a", "b")


def test_the_bar_takes_the_colour_of_danger_when_it_does_not_fit(qtbot):
    def verdict(free_bytes):
        return starter_entries(full_library(free=FreeMemory(free_bytes)))[0].verdicts[0]

    bar = MemoryBar()
    qtbot.addWidget(bar)
    bar.resize(300, 44)
    bar.show_verdict(verdict(24_000_000_000))
    fits = bar.grab().toImage().pixelColor(2, 8)
    assert fits.blue() > fits.red()
    bar.show_verdict(verdict(1_000_000))
    danger = bar.grab().toImage().pixelColor(2, 8)
    assert danger.red() > danger.blue()
    assert bar.legend().startswith("weights 498 MB")
