import msgspec
import pytest
from filled_session import MODEL, TOKENS, filled_session
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QApplication

from microscope.core.prompts import Prompt
from microscope.session.session import Cursor, Session
from microscope.session.setup import Setup
from microscope.views.prompt_panel import PromptPanel
from microscope.views.theme import apply_theme


@pytest.fixture
def session():
    return filled_session()


@pytest.fixture
def panel(qtbot, session):
    made = PromptPanel(session)
    qtbot.addWidget(made)
    made.resize(800, 150)
    made.show()
    return made


def test_it_can_be_built_for_an_empty_session(qtbot):
    qtbot.addWidget(PromptPanel(Session()))


def test_the_text_follows_the_session_without_echo(qtbot, panel, session):
    with qtbot.assertNotEmitted(panel.prompt_changed):
        session.setup = Setup(prompt=Prompt("two\nlines"))
    assert panel._edit.toPlainText() == "two\nlines"


def test_typing_asks_and_does_not_decide(qtbot, panel, session):
    before = session.setup
    with qtbot.waitSignal(panel.prompt_changed) as asked:
        qtbot.keyClicks(panel._edit, "x")
    assert asked.args == ["The bridge\nx"]
    assert session.setup == before


def test_what_the_user_has_typed_is_not_typed_over(qtbot, panel, session):
    panel._edit.moveCursor(panel._edit.textCursor().MoveOperation.Start)
    qtbot.keyClicks(panel._edit, "A")
    session.setup = Setup(prompt=Prompt("AThe bridge\n"))
    qtbot.keyClicks(panel._edit, "b")
    assert panel._edit.toPlainText() == "AbThe bridge\n"


def test_undo_and_redo_are_left_to_the_window(panel):
    for shortcut in (QKeySequence.StandardKey.Undo, QKeySequence.StandardKey.Redo):
        keys = QKeySequence(shortcut)[0]
        asked = QKeyEvent(QEvent.Type.ShortcutOverride, keys.key(), keys.keyboardModifiers())
        QApplication.sendEvent(panel._edit, asked)
        assert not asked.isAccepted()
    assert not panel._edit.isUndoRedoEnabled()


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
def test_up_to_three_lines_need_no_scroll_bar(qapp, panel, session, scale):
    apply_theme(qapp, "dark", scale)
    for lines in (1, 2, 3):
        session.setup = Setup(prompt=Prompt("\n".join("x" * lines)))
        qapp.processEvents()
        assert panel._edit.verticalScrollBar().maximum() == 0


def test_the_field_grows_to_three_lines_and_no_further(panel, session):
    heights = []
    for lines in (1, 2, 3, 9):
        session.setup = Setup(prompt=Prompt("\n".join("x" * lines)))
        heights.append(panel._edit.height())
    assert heights[0] < heights[1] < heights[2] == heights[3]


def test_the_chat_box_is_there_only_for_models_with_a_template(qtbot, panel, session):
    assert not panel._chat.isVisible()
    session.model = msgspec.structs.replace(MODEL, has_chat_template=True)
    assert panel._chat.isVisible()
    with qtbot.waitSignal(panel.chat_chosen) as asked:
        panel._chat.click()
    assert asked.args == [True]


def test_a_failure_is_said_in_place_and_forgotten_with_it(panel, session):
    assert not panel._notice.isVisible()
    session.failures = {"prompt": "The prompt is empty."}
    assert panel._notice.isVisible()
    assert panel._notice.text() == "The prompt is empty."
    session.failures = {}
    assert not panel._notice.isVisible()


def test_a_click_on_a_chip_asks_for_that_token(qtbot, panel):
    strip = panel._strip
    for token in range(len(TOKENS)):
        x = round((strip._edges[token] + strip._edges[token + 1]) / 2)
        with qtbot.waitSignal(panel.token_chosen) as asked:
            qtbot.mouseClick(strip.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(x, 10))
        assert asked.args == [token]


@pytest.mark.parametrize(
    ("key", "wanted"), [("Key_Left", 1), ("Key_Right", 3), ("Key_Home", 0), ("Key_End", 3)]
)
def test_keys_move_from_token_to_token(qtbot, panel, key, wanted):
    with qtbot.waitSignal(panel.token_chosen) as asked:
        qtbot.keyClick(panel._strip, getattr(Qt.Key, key))
    assert asked.args == [wanted]


def test_keys_stop_at_the_ends(qtbot, panel, session):
    session.cursor = Cursor(token=len(TOKENS) - 1)
    with qtbot.assertNotEmitted(panel.token_chosen):
        qtbot.keyClick(panel._strip, Qt.Key.Key_Right)


def test_spaces_and_line_ends_are_visible_and_the_tooltip_names_the_id(panel):
    assert panel._strip._texts == ("<s>", "The", "·bridge", "⏎")
    assert panel._strip._facts(2) == "token 2: “·bridge”\nid 11"
    assert "special" in panel._strip._facts(0)


def test_the_cursor_is_brought_into_view(panel, session):
    session.tokens = TOKENS * 60
    session.cursor = Cursor(token=200)
    strip = panel._strip
    assert strip.token_at(0) < 200 < strip.token_at(strip.viewport().width() - 1)
