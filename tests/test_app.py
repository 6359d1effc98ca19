"""The whole program with its real engine process (the one without weights)."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QPlainTextEdit

from microscope.app import Microscope
from microscope.core.features import Clamp, FeatureId
from microscope.core.pages import FeaturePage
from microscope.core.prompts import Prompt, Sampler
from microscope.core.sites import resid_post
from microscope.session.setup import Setup
from microscope.storage.shelf import specimen_folder
from microscope.views.clamp_slider import ClampSlider
from microscope.workers.specimen_builder import SpecimenBuilder

FAKE = [sys.executable, "-m", "microscope.engine", "--fake"]
FEATURE = FeatureId(resid_post(1), 7)
TIMEOUT_MS = 30_000


class FakeShelf:
    def folder_of(self, source):
        return source

    def saes_of(self, source):
        return ()

    def pages_of(self, model, sae):
        feature = FeatureId(sae.name, 7)
        return {feature: FeaturePage(feature, label="bridges", max_activation=4.0)}

    def published_of(self, sae):
        return None


@pytest.fixture
def scope(qtbot, qapp):
    setup = Setup(
        model="fake-model",
        saes=("/a", "/b"),
        prompt=Prompt("one two three"),
        clamps=(Clamp(FEATURE, 8.0),),
        sampler=Sampler(),
        max_new_tokens=24,
    )
    scope = Microscope(lambda: setup, FakeShelf(), engine_command=FAKE)
    scope.window.resize(1600, 1000)
    yield scope
    scope.close()


def text_of(written):
    return "".join(token.token.text for token in written)


def wait_until_idle(qtbot, scope):
    qtbot.waitUntil(lambda: scope.is_idle, timeout=TIMEOUT_MS)


def start(qtbot, scope):
    scope.window.show()
    scope.start()
    wait_until_idle(qtbot, scope)


def test_the_window_is_painted_before_the_engine_is_ready(qtbot, scope):
    scope.window.show()
    qtbot.waitExposed(scope.window)
    picture = scope.window.grab().toImage()
    assert scope.session.engine.status == "starting"
    assert picture.width() >= 1600
    colours = {picture.pixel(x, y) for x in range(0, 1600, 40) for y in range(0, 1000, 10)}
    assert len(colours) > 3
    scope.start()
    wait_until_idle(qtbot, scope)


def test_typing_reads_and_writes(qtbot, scope):
    start(qtbot, scope)
    editor = scope.window.findChild(QPlainTextEdit)
    editor.selectAll()
    qtbot.keyClicks(editor, "four five")
    wait_until_idle(qtbot, scope)
    assert [token.text for token in scope.session.tokens] == ["<bos>", "four", " five"]
    assert scope.session.lens.n_tokens == 3
    assert text_of(scope.session.baseline) == "word " * 24


def test_dragging_the_slider_rewrites_the_text_and_is_one_undo_step(qtbot, scope):
    start(qtbot, scope)
    slider = scope.window.findChild(ClampSlider)
    before = scope.session.setup
    middle = slider.rect().center().y()
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=QPoint(20, middle))
    for x in range(20, slider.width() - 20, 10):
        qtbot.mouseMove(slider, QPoint(x, middle))
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=QPoint(x, middle))
    wait_until_idle(qtbot, scope)
    value = scope.session.setup.clamps[0].value
    assert value > before.clamps[0].value
    assert text_of(scope.session.steered) == f"{value:g} " * 24
    scope.controller.undo()
    assert scope.session.setup == before


def test_two_hundred_moves_leave_exactly_the_last_one_s_text(qtbot, scope):
    start(qtbot, scope)
    slider = scope.window.findChild(ClampSlider)
    span = slider.maximum() - slider.minimum()
    for step in range(1, 201):
        slider.setValue(slider.minimum() + step * span // 200)
    wait_until_idle(qtbot, scope)
    value = scope.session.setup.clamps[0].value
    assert text_of(scope.session.steered) == f"{value:g} " * 24


def test_a_killed_engine_in_mid_sentence_is_replaced_and_writes_again(qtbot, scope):
    start(qtbot, scope)
    scope.controller.set_max_new_tokens(400)
    qtbot.waitUntil(lambda: len(scope.session.steered) > 30, timeout=TIMEOUT_MS)
    pid, setup = scope.worker.pid, scope.session.setup
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: scope.session.engine.status == "lost", timeout=TIMEOUT_MS)
    assert "started again" in scope.session.engine.message
    assert scope.window.isVisible()
    scope.controller.set_max_new_tokens(30)
    qtbot.waitUntil(
        lambda: scope.session.engine.status == "ready" and scope.is_idle, timeout=TIMEOUT_MS
    )
    assert scope.worker.pid not in (None, pid)
    assert scope.session.setup.prompt == setup.prompt
    assert text_of(scope.session.steered) == "8 " * 30


def test_a_prompt_that_ends_the_engine_every_time_leaves_the_window_usable(qtbot, scope):
    start(qtbot, scope)
    scope.controller.set_prompt("die")
    qtbot.waitUntil(
        lambda: (
            scope.session.engine.status == "lost"
            and "started again" not in scope.session.engine.message
        ),
        timeout=TIMEOUT_MS,
    )
    scope.worker._supervisor.join(10)
    scope.controller.set_prompt("fine")
    scope.controller.restart_engine()
    qtbot.waitUntil(
        lambda: scope.session.engine.status == "ready" and scope.is_idle, timeout=TIMEOUT_MS
    )
    assert [token.text for token in scope.session.tokens] == ["<bos>", "fine"]


def test_the_window_s_process_does_not_import_torch():
    code = (
        "import sys, os; os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "from microscope.app import Microscope, application\n"
        "import microscope.cli.open_command, microscope.cli.snapshot_command\n"
        "from microscope.session.setup import Setup\n"
        "from microscope.storage.shelf import LocalShelf\n"
        "app = application()\n"
        f"scope = Microscope(lambda: Setup(model='m'), LocalShelf(), engine_command={FAKE!r})\n"
        "scope.window.show(); scope.start(); scope.wait_until_idle(30); scope.close()\n"
        "assert scope.session.model is not None\n"
        "loaded = {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_first_start_makes_the_specimen_and_begins_with_what_comes_with_it(
    qtbot, qapp, tmp_path, monkeypatch
):
    monkeypatch.setenv("MICROSCOPE_HOME", str(tmp_path))
    monkeypatch.setattr("microscope.storage.shelf.resources", lambda: tmp_path / "nothing")
    folder = specimen_folder()
    code = (
        "import sys, pathlib; folder = pathlib.Path(sys.argv[sys.argv.index('--folder') + 1]);"
        "sys.stderr.write('\\rTraining 50 %'); folder.mkdir(parents=True);"
        "(folder / 'config.json').write_text('{}')"
    )
    builder = partial(
        SpecimenBuilder, command=[sys.executable, "-c", code, "--folder", str(folder)]
    )
    monkeypatch.setattr("microscope.app.SpecimenBuilder", builder)
    setups = iter([Setup(prompt=Prompt("before")), Setup(prompt=Prompt("after the build"))])
    scope = Microscope(lambda: next(setups), FakeShelf(), engine_command=FAKE)
    try:
        start(qtbot, scope)
        assert scope.session.setup.prompt == Prompt("after the build")
        assert scope.session.lens.n_tokens == 4
    finally:
        scope.close()
