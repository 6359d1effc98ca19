import gc
import inspect
import weakref

import msgspec
import pytest
from filled_session import BRIDGES, filled_session
from PySide6.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent

from microscope.core.features import FeatureId
from microscope.core.prompts import Prompt, Sampler
from microscope.session.session import EngineState, Session
from microscope.views import actions
from microscope.views.clamps_panel import ClampsPanel
from microscope.views.dialogs import about_box, glossary_dialog
from microscope.views.features_panel import FeaturesPanel
from microscope.views.heatmap_panel import HeatmapPanel
from microscope.views.intentions import Intentions
from microscope.views.main_window import MainWindow
from microscope.views.prompt_panel import PromptPanel
from microscope.views.status_bar import StatusBar
from microscope.views.text_panel import TextPanel
from microscope.views.theme import apply_theme, current_theme

PANELS = (PromptPanel, HeatmapPanel, FeaturesPanel, ClampsPanel, TextPanel, StatusBar)


def recorder():
    """Intentions that remember what was asked of them."""
    asked = []
    names = [n for n, m in vars(Intentions).items() if inspect.isfunction(m) and n[0] != "_"]
    made = type("Recorder", (), {n: _remembering(asked, n) for n in names})()
    return made, asked


def _remembering(asked, name):
    def intention(_self, *args):
        asked.append((name, *args))

    return intention


@pytest.fixture
def asked_of(qtbot):
    """A window with a full session, and the list of what it has asked."""
    intentions, asked = recorder()
    window = MainWindow(filled_session(), intentions)
    qtbot.addWidget(window)
    window.show()
    return window, asked


@pytest.mark.parametrize("panel_class", PANELS, ids=lambda c: c.__name__)
def test_a_deleted_panel_is_forgotten_by_the_session(qapp, panel_class):
    session = filled_session()
    panel = panel_class(session)
    panel.grab()
    remembered = weakref.ref(panel)
    panel.deleteLater()
    del panel
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert remembered() is None
    later = filled_session()  # none of this may reach a dead widget
    session.setup, session.cursor, session.lens = later.setup, later.cursor, later.lens
    session.tokens, session.features, session.saes = (), {}, ()
    session.model, session.baseline, session.engine = None, (), EngineState()
    session.failures, session.is_writing = {"text": "x"}, True


@pytest.mark.parametrize("make", [Session, filled_session], ids=["empty", "full"])
@pytest.mark.parametrize("size", [(1600, 1000), (1280, 800)], ids=str)
def test_the_window_fits_its_size_whatever_it_shows(qtbot, make, size):
    window = MainWindow(make(), recorder()[0])
    qtbot.addWidget(window)
    window.resize(*size)
    window.show()
    assert not window.grab().isNull()
    assert window.size().toTuple() == size
    least = window.minimumSizeHint()
    assert (least.width(), least.height()) <= size


def test_a_session_that_empties_and_fills_again_is_followed(asked_of):
    window, _ = asked_of
    session, full = window._session, filled_session()
    session.model, session.lens, session.saes, session.tokens = None, None, (), ()
    session.features, session.baseline, session.steered = {}, (), ()
    window.grab()
    session.model, session.tokens, session.lens = full.model, full.tokens, full.lens
    session.saes, session.features = full.saes, full.features
    window.grab()
    assert window._features._model.rowCount() == 2


def test_every_wish_of_a_panel_reaches_the_intention_of_its_name(asked_of):
    window, asked = asked_of
    sampler = Sampler(top_k=3)
    window._prompt.prompt_changed.emit("x")
    window._prompt.chat_chosen.emit(True)
    window._prompt.token_chosen.emit(1)
    window._heatmap.cell_chosen.emit(2, 3)
    window._features.feature_chosen.emit(BRIDGES)
    window._features.clamp_requested.emit(BRIDGES)
    window._features.sae_closed.emit("a")
    window._clamps.value_requested.emit(BRIDGES, 1.5)
    window._clamps.mode_chosen.emit(BRIDGES, "add")
    window._clamps.mute_chosen.emit(BRIDGES, True)
    window._clamps.removal_requested.emit(BRIDGES)
    window._clamps.gesture_ended.emit()
    window._text.sampler_changed.emit(sampler)
    window._text.seed_changed.emit(2**40)
    window._text.length_changed.emit(5)
    window._text.regenerate_requested.emit()
    window._text.stop_requested.emit()
    window._status.restart_requested.emit()
    assert asked == [
        ("set_prompt", "x"),
        ("set_chat", True),
        ("choose_token", 1),
        ("choose_cell", 2, 3),
        ("choose_feature", BRIDGES),
        ("add_clamp", BRIDGES),
        ("close_sae", "a"),
        ("set_clamp_value", BRIDGES, 1.5),
        ("set_clamp_mode", BRIDGES, "add"),
        ("mute_clamp", BRIDGES, True),
        ("remove_clamp", BRIDGES),
        ("end_gesture",),
        ("set_sampler", sampler),
        ("set_seed", 2**40),
        ("set_max_new_tokens", 5),
        ("regenerate",),
        ("stop",),
        ("restart_engine",),
    ]
    assert type(asked[4][1]) is FeatureId


def test_every_action_of_the_menus_has_a_shortcut_of_its_own(asked_of):
    window, _ = asked_of
    names = [s.name for specs in actions.MENUS.values() for s in specs if s.name]
    assert sorted(window._actions) == sorted(names)
    shortcuts = [s.shortcut for specs in actions.MENUS.values() for s in specs if s.shortcut]
    assert len(set(shortcuts)) == len(shortcuts)


def test_undo_and_redo_are_offered_when_the_session_can(asked_of):
    window, asked = asked_of
    assert not window._actions["undo"].isEnabled()
    window._session.can_undo = True
    window._actions["undo"].trigger()
    window._actions["redo"].trigger()
    assert asked == [("undo",)]


def test_themes_and_text_sizes_are_applied_and_told(qtbot, qapp, asked_of):
    window, _ = asked_of
    assert window._actions["dark"].isChecked()
    with qtbot.waitSignal(window.theme_changed) as told:
        window._actions["light"].trigger()
    assert told.args == ["light", 1.0]
    window._actions["larger"].trigger()
    assert (current_theme().name, current_theme().scale) == ("light", 1.1)
    apply_theme(qapp, "light", scale=1.95)
    for _ in range(3):
        window._actions["larger"].trigger()
    assert current_theme().scale == 2.0
    window._actions["usual"].trigger()
    assert current_theme().scale == 1.0
    window.grab()


def test_the_layout_is_told_at_closing_and_taken_by_the_next_window(qtbot, asked_of):
    window, _ = asked_of
    window._docks[1].hide()
    with qtbot.waitSignal(window.layout_changed) as told:
        window.close()
    later = MainWindow(filled_session(), recorder()[0], layout=told.args[0])
    qtbot.addWidget(later)
    later.show()
    assert [dock.isVisible() for dock in later._docks] == [True, False, True, True]
    later._actions["reset_layout"].trigger()
    assert all(dock.isVisible() for dock in later._docks)


def test_a_layout_that_is_not_one_is_passed_over(qtbot):
    window = MainWindow(Session(), recorder()[0], layout=b"nonsense")
    qtbot.addWidget(window)
    window.show()
    assert all(dock.isVisible() for dock in window._docks)


def drop(window, *paths):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.dropEvent(event)


def test_a_dropped_folder_is_a_model_if_it_has_a_config_and_else_an_sae(asked_of, tmp_path):
    window, asked = asked_of
    model, sae = tmp_path / "model", tmp_path / "sae"
    model.mkdir()
    sae.mkdir()
    (model / "config.json").write_text("{}")
    drop(window, model)
    drop(window, sae)
    assert asked == [("open_model", str(model)), ("open_saes", (str(sae),))]


def test_folders_are_asked_for_and_a_change_of_mind_asks_nothing(asked_of, monkeypatch):
    window, asked = asked_of
    answers = iter(["/a", "", "/b"])
    monkeypatch.setattr("microscope.views.main_window.ask_folder", lambda *_: next(answers))
    window._actions["open_model"].trigger()
    window._actions["open_model"].trigger()
    window._features.saes_requested.emit()
    assert asked == [("open_model", "/a"), ("open_saes", ("/b",))]


def test_a_picture_of_the_window_can_be_saved(asked_of, monkeypatch, tmp_path):
    window, _ = asked_of
    path = tmp_path / "window.png"
    monkeypatch.setattr("microscope.views.main_window.ask_picture_path", lambda *_: str(path))
    window._actions["save_picture"].trigger()
    assert path.read_bytes()[:4] == b"\x89PNG"
    path = tmp_path / "nowhere" / "window.png"
    window._actions["save_picture"].trigger()
    assert "Cannot write" in window._status.currentMessage()


def test_the_dialogs_can_be_built(asked_of):
    window, _ = asked_of
    dialog, box = glossary_dialog(window), about_box(window)
    assert dialog.windowTitle() == "What am I looking at?"
    assert "Microscope" in box.text()
    dialog.deleteLater()
    box.deleteLater()


def test_a_panel_comes_off_and_goes_back(asked_of):
    window, _ = asked_of
    dock = window._docks[2]
    place = dock.mapToGlobal(QPoint(0, 0))
    button = dock.titleBarWidget()._button
    button.click()
    assert dock.isFloating()
    assert dock.pos() != place
    button.click()
    assert not dock.isFloating()


def test_a_panel_detached_in_the_kept_layout_is_shown_after_the_window(qtbot, asked_of):
    window, _ = asked_of
    window._docks[2].setFloating(True)
    with qtbot.waitSignal(window.layout_changed) as kept:
        window.close()
    later = MainWindow(filled_session(), recorder()[0], layout=kept.args[0])
    qtbot.addWidget(later)
    dock, shown = later._docks[2], []
    dock.visibilityChanged.connect(shown.append)
    later.show()
    qtbot.waitUntil(lambda: shown[-2:] == [False, True])
    assert dock.isFloating()


def test_the_prompt_panel_is_as_high_as_its_prompt_again(qtbot, asked_of):
    window, _ = asked_of
    prompt, dock = window._prompt, window._docks[0]
    window.show()
    qtbot.waitExposed(window)
    before = dock.height()
    setup = window._session.setup
    window._session.setup = msgspec.structs.replace(setup, prompt=Prompt("\n" * 5))
    qtbot.waitUntil(lambda: dock.height() > before)
    window._session.setup = setup
    qtbot.waitUntil(lambda: dock.height() == before)
    assert prompt.height() <= prompt.sizeHint().height()


def test_the_status_bar_tells_engine_model_and_exactness(asked_of):
    window, asked = asked_of
    bar, session = window._status, window._session
    assert bar._model.text() == "tiny · 3 layers · 7.3M parameters · float32 · cpu"
    assert bar._saes.text() == "1 SAE open"
    assert bar._exact._whole == "exact"
    assert not bar._restart.isVisible()
    session.tokens_per_second = 50.0
    facts = (bar._model, bar._saes, bar._exact, bar._speed)
    assert not any(fact.isHidden() for fact in facts)
    session.engine = EngineState("lost", "The engine stopped.")
    assert all(fact.isHidden() for fact in facts)  # nothing is open in an engine that is gone
    bar._restart.click()
    assert asked == [("restart_engine",)]
    session.engine = EngineState("loading", "Loading", 3, 12)
    assert bar._engine._whole == "Loading (3 of 12)"
    assert (bar._progress.value(), bar._progress.maximum()) == (3, 12)
