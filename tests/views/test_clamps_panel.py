import msgspec
import pytest
from filled_session import BRIDGES, PLAIN, filled_session
from PySide6.QtCore import QPoint, Qt

from microscope.core.features import Clamp
from microscope.session.session import Session
from microscope.views.clamps_panel import ClampsPanel
from microscope.views.theme import apply_theme


@pytest.fixture
def session():
    return filled_session()


@pytest.fixture
def panel(qtbot, session):
    made = ClampsPanel(session)
    qtbot.addWidget(made)
    made.resize(560, 320)
    made.show()
    return made


def hold(session, *clamps):
    session.setup = msgspec.structs.replace(session.setup, clamps=clamps)


class Heard:
    def __init__(self, signal):
        self.args = []
        signal.connect(self.hear)

    def hear(self, *args):
        self.args.append(args)


def test_it_can_be_built_for_an_empty_session(qtbot):
    panel = ClampsPanel(Session())
    qtbot.addWidget(panel)
    panel.grab()
    assert panel._empty._sentence.text() == "Press + beside a feature, or double-click it."


def test_a_known_maximum_makes_the_scale_its_multiples(panel):
    spin = panel._rows[BRIDGES]._spin
    assert (spin.value(), spin.suffix()) == (2.0, " × max")


def test_an_unknown_maximum_leaves_activation_units(panel):
    row = panel._rows[PLAIN]
    assert (row._spin.value(), row._spin.suffix()) == (3.0, "")
    assert (row._slider._scale.low, row._slider._scale.high) == (-20, 20)


def test_rows_follow_the_session_without_echo(qtbot, panel, session):
    row = panel._rows[BRIDGES]
    with (
        qtbot.assertNotEmitted(panel.value_requested),
        qtbot.assertNotEmitted(panel.mode_chosen),
    ):
        hold(session, Clamp(BRIDGES, 30.0, "scale", is_muted=True))
    assert panel._rows == {BRIDGES: row}
    assert row._spin.value() == 30.0
    assert row._mode.currentText() == "multiply"
    assert row._mute.isChecked()
    assert not row._slider.isEnabled()


def test_a_drag_asks_on_every_move_and_ends_one_gesture(qtbot, panel, session):
    slider = panel._rows[BRIDGES]._slider
    values, ends = Heard(panel.value_requested), Heard(panel.gesture_ended)
    y = slider.height() // 2
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=QPoint(round(slider._x(1.0)), y))
    for units in (2.0, 3.0, 5.0):
        qtbot.mouseMove(slider, QPoint(round(slider._x(units)), y))
    assert ends.args == []
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton)
    assert len(ends.args) == 1
    assert [feature for feature, _ in values.args] == [BRIDGES] * 4
    asked = [value for _, value in values.args]
    assert asked == pytest.approx([6.0, 12.0, 18.0, 30.0], abs=0.4)
    assert session.setup.clamps[0].value == 12.0


def test_during_a_drag_the_echo_does_not_pull_the_handle_back(qtbot, panel, session):
    slider = panel._rows[BRIDGES]._slider
    y = slider.height() // 2
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=QPoint(round(slider._x(8.0)), y))
    held = slider.value()
    hold(session, Clamp(BRIDGES, 1.0))
    assert slider.value() == held
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton)


def test_a_key_on_the_slider_is_a_gesture_of_its_own(qtbot, panel):
    values, ends = Heard(panel.value_requested), Heard(panel.gesture_ended)
    qtbot.keyClick(panel._rows[BRIDGES]._slider, Qt.Key.Key_Right)
    ((feature, value),) = values.args
    assert feature == BRIDGES
    assert value > 12.0
    assert len(ends.args) == 1


def test_an_exact_value_can_be_typed(qtbot, panel):
    spin = panel._rows[BRIDGES]._spin
    values, ends = Heard(panel.value_requested), Heard(panel.gesture_ended)
    spin.lineEdit().selectAll()
    qtbot.keyClicks(spin, "3.25")
    qtbot.keyClick(spin, Qt.Key.Key_Return)
    assert values.args == [(BRIDGES, 3.25 * 6.0)]
    assert len(ends.args) == 1


def test_a_value_off_the_scale_rests_at_the_end_and_is_told_exactly(panel, session):
    hold(session, Clamp(BRIDGES, 600.0))
    row = panel._rows[BRIDGES]
    assert row._slider.value() == row._slider.maximum()
    assert row._spin.value() == 100.0


def test_mode_mute_remove_and_name_ask(qtbot, panel, session):
    row, before = panel._rows[PLAIN], session.setup
    with qtbot.waitSignal(panel.mode_chosen) as mode:
        row._mode.setCurrentIndex(row._mode.findData("ablate"))
    assert mode.args == [PLAIN, "ablate"]
    with qtbot.waitSignal(panel.mute_chosen) as mute:
        row._mute.click()
    assert mute.args == [PLAIN, True]
    with qtbot.waitSignal(panel.removal_requested) as removal:
        row._remove.click()
    assert removal.args == [PLAIN]
    with qtbot.waitSignal(panel.feature_chosen) as chosen:
        row._name.click()
    assert chosen.args == [PLAIN]
    assert session.setup == before


def test_a_clamp_whose_sae_is_not_open_rests_and_says_so(panel, session):
    row, saes = panel._rows[BRIDGES], session.saes
    session.saes = ()
    assert not row._slider.isEnabled()
    assert "not open" in row._name.toolTip()
    session.saes = saes
    assert row._slider.isEnabled()
    assert "not open" not in row._name.toolTip()


def test_rows_have_their_room_at_every_text_size(qtbot, qapp, panel):
    row = panel._rows[BRIDGES]
    for scale in (1.5, 1.0):
        apply_theme(qapp, "dark", scale)
        wanted = row.minimumSizeHint().width() + 18
        qtbot.waitUntil(lambda width=wanted: panel._scroll.minimumWidth() >= width)


def test_rows_come_go_and_keep_their_order(panel, session):
    hold(session, Clamp(PLAIN, 1.0), Clamp(BRIDGES, 1.0))
    assert panel._list.indexOf(panel._rows[PLAIN]) == 0
    hold(session, Clamp(BRIDGES, 1.0))
    assert list(panel._rows) == [BRIDGES]
    hold(session)
    assert panel._pages.currentIndex() == 0


def test_a_failure_is_said_in_place(panel, session):
    session.failures = {"clamps": "There is no feature 9999."}
    assert panel._notice.text() == "There is no feature 9999."
    assert panel._notice.isVisible()
