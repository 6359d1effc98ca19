import pytest

from microscope.session.history import MAX_STEPS, History, is_replaced, typing_gesture
from microscope.session.setup import Setup

A, B, C = (Setup(seed=n) for n in range(3))


def test_undo_and_redo_walk_the_same_path():
    history = History()
    history.record(A)
    history.record(B)
    assert history.undo(C) == B
    assert history.undo(B) == A
    assert not history.can_undo
    assert history.redo(A) == B
    assert history.redo(B) == C
    assert not history.can_redo


def test_a_gesture_is_one_step_and_the_next_gesture_another():
    history = History()
    for seed in range(10):
        history.record(Setup(seed=seed), gesture="drag")
    history.end_gesture()
    history.record(Setup(seed=10), gesture="drag")
    assert history.undo(Setup(seed=11)) == Setup(seed=10)
    assert history.undo(Setup(seed=10)) == Setup(seed=0)


def test_a_change_after_an_undo_forgets_what_was_undone():
    history = History()
    history.record(A)
    history.undo(B)
    history.record(A)
    assert not history.can_redo


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("ab", "abc", ("typing", False)),
        ("abc", "ab", ("deleting", False)),
        ("", "pasted words", ("typing", True)),
        ("all of it", "", ("typing", True)),
        ("one", "two", ("typing", True)),
        ("typed over", "t", ("typing", True)),
    ],
)
def test_typing_and_deleting_are_gestures_and_what_replaces_text_begins_one(
    before, after, expected
):
    assert (typing_gesture(before, after), is_replaced(before, after)) == expected


def test_undo_and_redo_of_nothing_raise():
    with pytest.raises(IndexError):
        History().undo(A)
    with pytest.raises(IndexError):
        History().redo(A)


def test_the_past_is_bounded():
    history = History()
    for seed in range(MAX_STEPS + 50):
        history.record(Setup(seed=seed))
    n_steps, present = 0, Setup(seed=-1)
    while history.can_undo:
        present, n_steps = history.undo(present), n_steps + 1
    assert n_steps == MAX_STEPS
