"""Type, run, drag, see: the window, the engine process and a model that was made here."""

import os
import signal
import sys

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QPlainTextEdit
from specimen_fixture import tiny_specimen_folder

from microscope.app import Microscope
from microscope.cli.first_setup import first_setup
from microscope.core.features import FeatureId
from microscope.core.messages import Generate, OpenModel, OpenSaes
from microscope.core.prompts import Prompt
from microscope.engine.model_engine import ModelEngine
from microscope.storage.shelf import LocalShelf
from microscope.views.clamp_slider import ClampSlider

TIMEOUT_MS = 120_000
ENGINE = [sys.executable, "-m", "microscope.engine"]


@pytest.fixture(scope="session")
def specimen(tmp_path_factory):
    return tiny_specimen_folder(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def scope(qtbot, qapp, specimen):
    shelf = LocalShelf()
    setup = first_setup(shelf, str(specimen))
    scope = Microscope(lambda: setup, shelf, engine_command=ENGINE)
    scope.window.resize(1280, 800)
    scope.window.show()
    scope.start()
    qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)
    yield scope
    scope.close()


def ids(written):
    return [token.token.id for token in written]


def fresh_text(specimen, setup):
    """The steered text of a setup, by an engine that has written nothing before."""
    engine = ModelEngine()
    list(engine.handle(OpenModel(run_id=0, source=str(specimen))))
    list(engine.handle(OpenSaes(run_id=0, sources=setup.saes)))
    request = Generate(
        run_id=0,
        prompt=setup.prompt,
        clamps=setup.clamps,
        sampler=setup.sampler,
        seed=setup.seed,
        max_new_tokens=setup.max_new_tokens,
    )
    stream = "steered" if setup.clamps else "baseline"
    return [
        token.id
        for event in engine.handle(request)
        if getattr(event, "stream", None) == stream
        for token in event.tokens
    ]


def test_type_run_drag_and_see(qtbot, scope, specimen):
    session = scope.session
    assert session.failures == {}
    assert session.model.n_layers == 2
    assert len(session.saes) == 2
    assert any(page.label for page in session.pages.values())
    assert ids(session.steered) == fresh_text(specimen, session.setup)

    editor = scope.window.findChild(QPlainTextEdit)
    editor.selectAll()
    qtbot.keyClicks(editor, "The cat")
    qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)
    assert session.setup.prompt == Prompt("The cat")
    assert session.lens.n_tokens == len(session.tokens)
    assert (session.lens.ids >= 0).all()
    assert set(session.features) == {sae.name for sae in session.saes}

    last_sae = session.saes[-1].name
    strongest = int(session.features[last_sae].indices[-1, 0])
    scope.controller.add_clamp(FeatureId(last_sae, strongest))
    slider = scope.window.findChild(ClampSlider)
    y = slider.rect().center().y()
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=QPoint(30, y))
    for x in range(30, slider.width() - 30, 6):
        qtbot.mouseMove(slider, QPoint(x, y))
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=QPoint(x, y))
    qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)
    assert ids(session.steered) == fresh_text(specimen, session.setup)
    assert ids(session.steered) != ids(session.baseline)
    assert all(token.kl is not None and token.kl >= 0 for token in session.steered)

    os.kill(scope.worker.pid, signal.SIGKILL)
    text = ids(session.steered)
    qtbot.waitUntil(lambda: session.engine.status == "lost", timeout=TIMEOUT_MS)
    qtbot.waitUntil(
        lambda: session.engine.status == "ready" and scope.is_idle, timeout=TIMEOUT_MS
    )
    assert ids(session.steered) == text
