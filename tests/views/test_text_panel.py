import msgspec
import pytest
from filled_session import filled_session, written
from PySide6.QtCore import Qt

from microscope.core.prompts import Sampler, Token
from microscope.session.session import Session, WrittenToken
from microscope.views.text_panel import TextPanel


@pytest.fixture
def session():
    return filled_session()


@pytest.fixture
def panel(qtbot, session):
    made = TextPanel(session)
    qtbot.addWidget(made)
    made.resize(900, 320)
    made.show()
    return made


def marked(text):
    return [fragment.text for fragment in text._fragments if fragment.is_changed]


def test_it_can_be_built_for_an_empty_session(qtbot):
    panel = TextPanel(Session())
    qtbot.addWidget(panel)
    panel.grab()


def test_both_texts_stand_after_the_prompt_without_its_special_tokens(panel):
    assert panel._baseline.toPlainText() == "The bridge\n is old."
    assert panel._steered.toPlainText() == "The bridge\n is a bridge"


def test_words_that_differ_are_marked_on_both_sides(panel):
    assert marked(panel._baseline) == [" old", "."]
    assert marked(panel._steered) == [" a", " bridge"]


def test_marks_are_underlined_and_not_by_colour_alone(panel):
    cursor = panel._steered.textCursor()
    cursor.setPosition(len("The bridge\n is a"))
    assert cursor.charFormat().fontUnderline()
    cursor.setPosition(len("The bridge\n i"))
    assert not cursor.charFormat().fontUnderline()


def test_an_end_token_is_muted_and_never_marked_as_a_changed_word(panel, session):
    end = WrittenToken(Token(2, "</s>", is_special=True), 0.5)
    session.steered = (*session.steered, end)
    assert marked(panel._steered) == [" a", " bridge"]
    assert [f.text for f in panel._steered._fragments if f.is_muted][-1] == "</s>"


def test_what_is_not_written_yet_is_not_a_difference(panel, session):
    session.is_writing = True
    session.steered = written(" is")
    assert marked(panel._baseline) == []
    session.is_writing = False
    assert marked(panel._baseline) == [" old", "."]


def test_without_a_clamp_in_force_there_is_no_steered_text(panel, session):
    session.setup = msgspec.structs.replace(session.setup, clamps=())
    assert panel._steered.toPlainText() == ""
    assert panel._steered.placeholderText().startswith("Hold a feature")
    assert marked(panel._baseline) == []


def test_a_growing_text_is_appended_and_not_written_anew(panel, session):
    kept = []
    document = panel._baseline.document()
    document.contentsChange.connect(lambda position, *_: kept.append(position))
    length = document.characterCount() - 1
    session.baseline = (*session.baseline, *written(" Yes"))
    document.contentsChange.disconnect()
    assert kept
    assert min(kept) >= length - len(" old.")
    assert panel._baseline.toPlainText().endswith(" old. Yes")


def test_text_beyond_the_basic_plane_keeps_the_tooltips_in_step(panel, session):
    session.baseline = written(" 🌉🌉", " is", " here")
    document = panel._baseline.document()
    for word in ("🌉", "is", "here"):
        position = document.find(word).selectionStart()
        assert word in panel._baseline.fragment_at(position).text


def test_tokens_are_tinted_by_probability_or_kl(panel):
    assert all(fragment.tint == 0 for fragment in panel._steered._fragments)
    panel._tint.setCurrentIndex(panel._tint.findData("probability"))
    assert panel._baseline._fragments[-1].tint == pytest.approx(0.75)
    panel._tint.setCurrentIndex(panel._tint.findData("kl"))
    assert panel._baseline._fragments[-1].tint == 0
    assert panel._steered._fragments[-1].tint == pytest.approx(0.25)


def test_the_tooltip_tells_probability_kl_and_id(panel):
    facts = panel._steered._fragments[-1].facts
    assert "probability 25 %" in facts
    assert "0.500 nats" in facts
    assert "token id" in facts


def test_the_sampler_follows_the_session_without_echo(qtbot, panel, session):
    wanted = Sampler(0.0, 40, 0.9, 0.05, 1.2)
    with (
        qtbot.assertNotEmitted(panel.sampler_changed),
        qtbot.assertNotEmitted(panel.seed_changed),
    ):
        session.setup = msgspec.structs.replace(
            session.setup, sampler=wanted, seed=2**40, max_new_tokens=9
        )
    spins = panel._bar._spins
    assert spins["temperature"].text() == "greedy"
    assert spins["top_k"].text() == "40"
    assert panel._bar._seed.value() == 2**40
    assert panel._bar._length.value() == 9


def test_a_change_asks_for_the_whole_sampler_and_keeps_what_is_not_shown(qtbot, panel, session):
    exact = Sampler(temperature=0.123456)
    session.setup = msgspec.structs.replace(session.setup, sampler=exact)
    with qtbot.waitSignal(panel.sampler_changed) as asked:
        panel._bar._spins["top_k"].setValue(5)
    assert asked.args == [Sampler(temperature=0.123456, top_k=5)]
    assert isinstance(asked.args[0].top_k, int)
    assert session.setup.sampler == exact


def test_seed_dice_and_length_ask(qtbot, panel):
    with qtbot.waitSignal(panel.seed_changed) as seed:
        panel._bar._seed.setValue(2**40)
    assert seed.args == [2**40]
    with qtbot.waitSignal(panel.seed_changed) as seed:
        qtbot.mouseClick(panel._bar._dice, Qt.MouseButton.LeftButton)
    assert 0 <= seed.args[0] < 1_000_000
    with qtbot.waitSignal(panel.length_changed) as length:
        panel._bar._length.setValue(5)
    assert length.args == [5]


def test_one_button_writes_again_or_stops(qtbot, panel, session):
    with qtbot.waitSignal(panel.regenerate_requested):
        panel._bar._write.click()
    session.is_writing = True
    assert panel._bar._write.text() == "Stop"
    assert panel._progress.isVisible()
    assert panel._state.text() == "writing 0 of 48"  # what stands there is of the last run
    session.steered = session.steered[:2]
    assert panel._state.text() == "writing 2 of 48"
    with qtbot.waitSignal(panel.stop_requested):
        panel._bar._write.click()
    session.is_writing = False
    assert panel._bar._write.text() == "Write again"
    assert not panel._progress.isVisible()


def test_what_the_prompt_panel_says_already_is_not_said_again(panel, session):
    session.failures = {"prompt": "Too long.", "text": "Too long."}
    assert not panel._notice.isVisible()


def test_a_failure_is_said_in_place(panel, session):
    session.failures = {"text": "The logits are not finite."}
    assert panel._notice.isVisible()
    assert panel._notice.text() == "The logits are not finite."
