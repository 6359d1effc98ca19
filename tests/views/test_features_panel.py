import msgspec
import pytest
from filled_session import BRIDGES, PLAIN, SAE, features, filled_session, sae_card
from PySide6.QtCore import Qt

from microscope.core.features import Clamp, FeatureId
from microscope.session.session import Cursor, EngineState, Session
from microscope.views.features_panel import FeaturesPanel
from microscope.views.features_table_model import ACTIVATION, HOLD, LABEL


@pytest.fixture
def session():
    return filled_session()


@pytest.fixture
def panel(qtbot, session):
    made = FeaturesPanel(session)
    qtbot.addWidget(made)
    made.resize(420, 500)
    made.show()
    return made


def column(panel, which):
    model = panel._model
    return [model.index(row, which).data() for row in range(model.rowCount())]


def click(qtbot, panel, row, which, *, twice=False):
    table = panel._table
    place = table.visualRect(panel._model.index(row, which)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    if twice:
        qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)


def test_it_can_be_built_for_an_empty_session(qtbot):
    panel = FeaturesPanel(Session())
    qtbot.addWidget(panel)
    panel.grab()
    assert panel._pages.currentIndex() == 0


def test_without_an_sae_it_says_how_to_open_one(qtbot, panel, session):
    session.saes = ()
    assert panel._empty._title.text() == "No SAE is open"
    with qtbot.waitSignal(panel.saes_requested):
        panel._empty._button.click()


def test_features_are_listed_strongest_first_with_labels(panel):
    assert column(panel, LABEL) == ["bridges", "feature 4"]
    assert column(panel, ACTIVATION) == ["3.00", "0.50"]


def test_the_list_follows_the_cursor_and_the_scope(panel, session):
    session.cursor = Cursor(token=1)
    assert column(panel, ACTIVATION)[0] == "2.00"
    panel._scope.setCurrentIndex(1)
    assert column(panel, ACTIVATION)[0] == "4.00"


def test_a_bar_is_the_share_of_the_known_maximum(panel):
    assert panel._model.activation(0).share == pytest.approx(0.5)
    assert panel._model.activation(1).share is None


def test_the_filter_keeps_labels_and_numbers(panel):
    panel._filter.setText("BRID")
    assert column(panel, LABEL) == ["bridges"]
    panel._filter.setText("4")
    assert column(panel, LABEL) == ["feature 4"]


def test_a_click_chooses_and_a_double_click_holds(qtbot, panel, session):
    before = session.setup
    with qtbot.waitSignal(panel.feature_chosen) as chosen:
        click(qtbot, panel, 1, LABEL)
    assert chosen.args == [PLAIN]
    with qtbot.waitSignal(panel.clamp_requested) as held:
        click(qtbot, panel, 1, LABEL, twice=True)
    assert held.args == [PLAIN]
    assert session.setup == before


def test_the_plus_holds_at_once(qtbot, panel):
    with (
        qtbot.assertNotEmitted(panel.feature_chosen),
        qtbot.waitSignal(panel.clamp_requested) as held,
    ):
        click(qtbot, panel, 0, HOLD)
    assert held.args == [BRIDGES]


def test_enter_holds_the_row_under_the_cursor(qtbot, panel):
    with qtbot.waitSignal(panel.clamp_requested) as held:
        qtbot.keyClick(panel._table, Qt.Key.Key_Return)
    assert held.args == [BRIDGES]


def test_the_chosen_feature_is_selected_without_echo(qtbot, panel, session):
    with qtbot.assertNotEmitted(panel.feature_chosen):
        session.cursor = Cursor(token=2, feature=PLAIN)
    assert panel._table.currentIndex().row() == 1


def test_features_on_the_rack_are_marked(panel, session):
    assert [panel._model.is_held(row) for row in (0, 1)] == [True, True]
    session.setup = msgspec.structs.replace(session.setup, clamps=(Clamp(PLAIN, 1.0),))
    assert [panel._model.is_held(row) for row in (0, 1)] == [False, True]


def test_one_sae_of_several_can_be_listed_and_closed(qtbot, panel, session):
    other = sae_card(2)
    session.saes = (sae_card(), other)
    session.features = {SAE: features(), other.name: features(other.name)}
    assert panel._model.rowCount() == 4
    panel._sae.setCurrentIndex(panel._sae.findData(other.name))
    assert panel._model.rowCount() == 2
    assert panel._model.feature(0) == FeatureId(other.name, BRIDGES.index)
    with qtbot.waitSignal(panel.sae_closed) as closed:
        panel._close.click()
    assert closed.args == [other.name]


def test_the_meter_tells_the_unexplained_share(panel, session):
    assert panel._meter.sentence() == "unexplained by the SAE: 12 %"
    session.features = {}
    assert "not known" in panel._meter.sentence()


def test_while_saes_are_being_opened_it_does_not_ask_for_one(panel, session):
    session.saes = ()
    session.engine = EngineState("loading", "Opening the SAEs")
    assert panel._empty._sentence.text() == "Opening the SAEs"
    assert not panel._empty._button.isVisible()
    session.engine = EngineState("ready", "Ready")
    assert panel._empty._title.text() == "No SAE is open"
    assert panel._empty._button.isVisible()


def test_an_empty_list_says_why(panel, session):
    assert not panel._nothing.isVisible()
    panel._filter.setText("zzz")
    assert panel._nothing.text() == "No feature that is on matches “zzz”."
    panel._filter.clear()
    session.features = {}
    assert panel._nothing.text() == "No feature is on here."
    session.tokens = ()
    assert panel._nothing.text() == "Type a prompt to see which features are on."
    assert panel._nothing.isVisible()


def test_the_column_of_buttons_does_not_sort(panel):
    header = panel._table.horizontalHeader()
    panel._table.sortByColumn(LABEL, Qt.SortOrder.DescendingOrder)
    header.setSortIndicator(HOLD, Qt.SortOrder.AscendingOrder)
    assert header.sortIndicatorSection() == LABEL
    assert column(panel, LABEL) == ["feature 4", "bridges"]


def test_a_sort_lasts_when_the_list_changes(panel, session):
    panel._table.sortByColumn(LABEL, Qt.SortOrder.DescendingOrder)
    assert column(panel, LABEL) == ["feature 4", "bridges"]
    session.cursor = Cursor(token=1)
    assert column(panel, LABEL) == ["feature 4", "bridges"]


def test_a_failure_is_said_in_place(panel, session):
    session.failures = {"saes": "cfg.json is missing."}
    assert panel._notice.isVisible()
    assert panel._notice.text() == "cfg.json is missing."
