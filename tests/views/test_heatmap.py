import sys

import numpy as np
import pytest
from filled_session import MODEL, filled_session, lens
from PySide6.QtCore import QPoint, QPointF, Qt

from microscope.core.prompts import Token
from microscope.core.readings import LensReading
from microscope.session.session import Cursor, EngineState, Session
from microscope.views.heatmap_item import HeatmapItem
from microscope.views.heatmap_panel import HeatmapPanel


@pytest.fixture
def session():
    return filled_session()


@pytest.fixture
def panel(qtbot, session):
    made = HeatmapPanel(session)
    qtbot.addWidget(made)
    made.resize(900, 500)
    made.show()
    return made


@pytest.fixture
def long_panel(qtbot, panel, session):
    """26 layers and the embedding by 512 tokens."""
    tokens = tuple(Token(i, f" t{i}") for i in range(512))
    session.cursor = Cursor()
    session.lens = lens(n_layers=26, tokens=tokens)
    qtbot.waitExposed(panel)
    return panel


def count_texts(monkeypatch):
    drawn = []
    monkeypatch.setattr(HeatmapItem, "_draw_text", lambda *args: drawn.append(args[3:5]))
    return drawn


def test_it_can_be_built_for_an_empty_session(qtbot):
    panel = HeatmapPanel(Session())
    qtbot.addWidget(panel)
    panel.grab()
    assert panel._pages.currentIndex() == 0


def test_the_empty_page_says_what_is_going_on(qtbot):
    session = Session()
    panel = HeatmapPanel(session)
    qtbot.addWidget(panel)
    assert panel._empty._sentence.text() == "Starting the engine"
    session.engine = EngineState("ready", "")
    assert panel._empty._title.text() == "No model is open"
    session.model = MODEL
    assert panel._empty._title.text() == "Type a prompt above"


def test_a_lost_engine_is_said_above_the_cells(panel, session):
    session.engine = EngineState("lost", "Out of memory: open a smaller model.")
    assert panel._notice.isVisible()
    assert panel._notice.text() == "Out of memory: open a smaller model."


def test_a_click_asks_for_the_cell_under_the_mouse(qtbot, panel):
    graph = panel._graph
    for cell in ((0, 0), (3, 0), (2, 3)):
        place = graph.cell_box(*cell).center().toPoint()
        with qtbot.waitSignal(panel.cell_chosen) as asked:
            qtbot.mouseClick(graph.viewport(), Qt.MouseButton.LeftButton, pos=place)
        assert asked.args == list(cell)


def test_the_output_is_on_top(panel):
    graph = panel._graph
    assert graph.cell_box(0, 3).top() < graph.cell_box(0, 0).top()
    assert panel._graph._layers._labels == ("embed", "0", "1", "output 2")


@pytest.mark.parametrize(
    ("key", "wanted"),
    [("Key_Left", [1, 1]), ("Key_Right", [3, 1]), ("Key_Up", [2, 2]), ("Key_Down", [2, 0])],
)
def test_arrow_keys_ask_for_the_next_cell(qtbot, panel, session, key, wanted):
    with qtbot.waitSignal(panel.cell_chosen) as asked:
        qtbot.keyClick(panel._graph, getattr(Qt.Key, key))
    assert asked.args == wanted
    assert session.cursor.token == 2


def test_following_the_session_does_not_echo(qtbot, panel, session):
    with qtbot.assertNotEmitted(panel.cell_chosen):
        session.cursor = Cursor(token=1, site=2)
        session.lens = lens(seed=5)
    assert panel._graph._cursor == (1, 2)


def test_hovering_shows_ten_tokens_and_leaving_hides_them(qtbot, panel):
    graph, card = panel._graph, panel._card
    for cell in ((0, 0), (2, 3)):  # the scene needs a move to know where the mouse is
        qtbot.mouseMove(graph.viewport(), graph.cell_box(*cell).center().toPoint())
    assert card.isVisible()
    assert len(card._bars) == 10
    assert card._title == "after “·bridge”, after layer 2"
    assert panel.rect().contains(card.geometry())
    panel._graph.hover_ended.emit()
    assert not card.isVisible()


def test_a_cell_that_is_not_filled_has_no_card(panel, session):
    session.lens = LensReading.empty(session.lens.sites, session.tokens, 10)
    panel._show_card(2, 3)
    assert not panel._card.isVisible()


def test_cells_that_are_not_filled_are_drawn_without_text(panel, session, monkeypatch):
    drawn = count_texts(monkeypatch)
    half = lens()
    half.p[2:, 1:], half.entropy[2:, 1:], half.ids[2:, 1:] = np.nan, np.nan, -1
    session.lens = half
    panel.grab()
    assert set(drawn) == {(t, s) for t in range(4) for s in range(4) if not (s >= 2 and t >= 1)}


def test_text_is_drawn_only_for_exposed_cells(long_panel, monkeypatch):
    drawn = count_texts(monkeypatch)
    long_panel._graph.viewport().grab()
    first, last = long_panel._graph.columns_in_view()
    assert drawn
    assert {token for token, _ in drawn} <= set(range(int(first) - 1, int(last) + 2))
    assert len(set(drawn)) < 27 * (last - first + 3) < 27 * 512 / 10


def test_no_text_is_drawn_in_cells_too_narrow_for_it(long_panel, monkeypatch):
    drawn = count_texts(monkeypatch)
    long_panel._graph._view.setXRange(0, 512, padding=0)
    long_panel._graph.viewport().grab()
    assert drawn == []


def test_a_short_prompt_fills_the_panel(panel):
    graph = panel._graph
    filled = graph.cell_box(3, 0).right() - graph.cell_box(0, 0).left()
    assert filled == pytest.approx(graph._view.width(), abs=2)


def test_a_long_prompt_starts_with_cells_that_can_be_read(long_panel):
    assert 60 <= long_panel._graph.cell_box(0, 0).width() <= 110
    assert long_panel._scroll.isVisible()


def test_the_scroll_bar_and_the_view_agree(long_panel):
    long_panel._scroll.setValue(10_000)
    assert long_panel._graph.columns_in_view()[0] == pytest.approx(100, abs=0.02)
    long_panel._graph.scroll_to(200)
    assert long_panel._scroll.value() == pytest.approx(20_000, abs=2)


def test_the_cursor_is_brought_into_view(long_panel, session):
    session.cursor = Cursor(token=400, site=3)
    first, last = long_panel._graph.columns_in_view()
    assert first <= 400 < last


def test_zooming_and_panning_stay_within_the_cells(long_panel):
    view = long_panel._graph._view
    view.translateBy(x=-1000)
    assert long_panel._graph.columns_in_view()[0] == 0
    view.translateBy(x=5000)
    assert long_panel._graph.columns_in_view()[1] <= 512
    view.scaleBy(x=1e6)
    assert long_panel._graph.columns_in_view() == (0, 512)


def test_a_chosen_zoom_outlives_a_change_of_the_prompt(long_panel, session):
    graph = long_panel._graph
    graph._view.setXRange(0, 30, padding=0)
    graph._on_zoomed()
    width = graph.cell_box(0, 0).width()
    session.lens = lens(n_layers=26, tokens=session.lens.tokens[:300])
    assert graph.cell_box(0, 0).width() == pytest.approx(width, abs=1.5)


def test_colour_by_entropy_changes_cells_and_legend(panel):
    before = panel._graph._last[1].copy()
    panel._colour.setCurrentIndex(1)
    assert panel._legend._high == "4.6: no idea"
    assert (panel._graph._last[1] != before).any()


def test_panning_takes_no_references_to_none_away(long_panel):
    graph = long_panel._graph
    graph.grab()
    before = sys.getrefcount(None)
    for step in range(200):
        graph.scroll_to(step % 300)
        graph.viewport().repaint()
    assert sys.getrefcount(None) >= before - 50


def test_an_exception_while_painting_is_logged_and_the_window_lives(panel, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(HeatmapItem, "_draw_grid", broken)
    panel._graph.viewport().grab()
    assert "HeatmapItem.paint failed" in caplog.text
    assert panel.isVisible()


def test_the_wheel_zooms_tokens_and_not_layers(qtbot, long_panel):
    graph = long_panel._graph
    before, rows = graph.columns_in_view(), graph._view.viewRange()[1]
    centre = graph.cell_box(3, 5).center()
    send_wheel(graph, centre, 120)
    after = graph.columns_in_view()
    assert after[1] - after[0] < before[1] - before[0]
    assert graph._view.viewRange()[1] == rows


def send_wheel(graph, place, delta):
    from PySide6.QtGui import QWheelEvent
    from PySide6.QtWidgets import QApplication

    event = QWheelEvent(
        place,
        QPointF(graph.viewport().mapToGlobal(place.toPoint())),
        QPoint(),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(graph.viewport(), event)
