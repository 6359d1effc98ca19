"""The badge, its dialog, and what is asked before labels are imported."""

import gc
import weakref

import pytest
from filled_session import filled_session
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QDialog, QInputDialog, QLabel
from test_main_window import recorder

from microscope.core.checkup import Finding
from microscope.views.checkup_dialog import CheckupDialog
from microscope.views.label_dialogs import BY_THE_FILE, ask_sae
from microscope.views.main_window import MainWindow
from microscope.views.status_bar import StatusBar
from microscope.views.theme import current_theme

GOOD = Finding("Logits", True, 0.0, 1e-3, "The text is the model's own.")
BAD = Finding("blocks.1.hook_resid_post", False, 0.2, 0.7, "Explained variance 0.20 here.")


@pytest.fixture
def window(qtbot):
    intentions, asked = recorder()
    window = MainWindow(filled_session(), intentions)
    qtbot.addWidget(window)
    window.show()
    window.asked = asked
    return window


def dot_colour(bar):
    return bar._exact_dot.text().split("color:")[1][:7]


def test_the_badge_turns_amber_with_the_reason_and_green_again(qtbot):
    bar = StatusBar(filled_session())
    qtbot.addWidget(bar)
    assert dot_colour(bar) == current_theme().good
    bar._session.checkup = (GOOD, BAD)
    assert dot_colour(bar) == current_theme().caution
    assert BAD.sentence in bar._exact._whole
    assert BAD.sentence in bar._exact_dot.toolTip()
    bar._session.checkup = (GOOD,)
    assert dot_colour(bar) == current_theme().good
    assert bar._exact._whole == "exact"
    bar._session.failures = {"checkup": "It stopped."}
    assert bar._exact._whole == "not checked"
    bar._session.model = None
    assert not bar._exact.isVisibleTo(bar)


def test_news_are_shown_for_a_while(qtbot):
    bar = StatusBar(filled_session())
    qtbot.addWidget(bar)
    bar._session.news = "Imported 3 labels."
    assert bar.currentMessage() == "Imported 3 labels."


def texts(dialog):
    return [label.text() for label in dialog._list.widget().findChildren(QLabel)]


def test_the_dialog_lists_findings_as_they_come_and_troubles_first(qtbot):
    session = filled_session()
    dialog = CheckupDialog(session)
    qtbot.addWidget(dialog)
    assert "Nothing has been checked" in dialog._heading.text()
    session.is_checking_up = True
    assert not dialog._again.isEnabled()
    session.checkup = (GOOD, BAD)
    session.is_checking_up = False
    assert dialog._heading.text() == "1 of 2 checks passed."
    shown = [text for text in texts(dialog) if "●" not in text]
    assert shown == [f"{BAD.name}\n{BAD.sentence}", f"{GOOD.name}\n{GOOD.sentence}"]
    with qtbot.waitSignal(dialog.check_requested):
        dialog._again.click()
    assert not dialog.grab().isNull()


def test_a_click_on_the_badge_opens_the_check_up_and_check_again_asks(qtbot, window):
    badge = window._status._exact
    qtbot.mouseClick(badge, Qt.MouseButton.LeftButton)
    (dialog,) = window.findChildren(CheckupDialog)
    dialog._again.click()
    assert window.asked == [("check_up",)]
    dialog.close()


def test_a_closed_dialog_is_forgotten_by_the_session(qapp, window):
    window._actions["checkup"].trigger()
    (dialog,) = window.findChildren(QDialog)
    remembered = weakref.ref(dialog)
    dialog.close()
    del dialog
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    gc.collect()
    assert remembered() is None
    window._session.checkup = (BAD,)


def test_labels_are_imported_for_the_only_sae_without_a_question(window, monkeypatch):
    answers = iter(["/a.jsonl", ""])
    monkeypatch.setattr("microscope.views.main_window.ask_label_file", lambda _: next(answers))
    monkeypatch.setattr("microscope.views.main_window.ask_folder", lambda *_: "/folder")
    window._actions["import_labels"].trigger()
    window._actions["import_labels"].trigger()
    window._actions["import_label_folder"].trigger()
    name = window._session.saes[0].name
    assert window.asked == [("import_labels", "/a.jsonl", name),
                            ("import_labels", "/folder", name)]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [((BY_THE_FILE, True), ""), (("b", True), "b"), (("b", False), None)],
)
def test_with_several_saes_open_it_is_asked_which(monkeypatch, answer, chosen):
    asked = []

    def get_item(*args):
        asked.append(args[3])
        return answer

    monkeypatch.setattr(QInputDialog, "getItem", get_item)
    assert ask_sae(None, ["a", "b"]) == chosen
    assert asked == [[BY_THE_FILE, "a", "b"]]
