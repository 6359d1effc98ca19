"""Undo and redo over frozen setups."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microscope.session.setup import Setup

MAX_STEPS = 500


def typing_gesture(before: str, after: str) -> str:
    """Typing on is one gesture and deleting letters another."""
    return "deleting" if len(after) == len(before) - 1 else "typing"


def is_replaced(before: str, after: str) -> bool:
    """Whether text was pasted, cut or typed over, which begins a gesture of its own."""
    return abs(len(after) - len(before)) != 1


class History:
    """Setups before and after the present one.

    Changes with the same `gesture` (one drag of one slider, one stretch of typing) make one
    step, until `end_gesture`.
    """

    def __init__(self) -> None:
        self._past: list[Setup] = []
        self._future: list[Setup] = []
        self._gesture: str | None = None

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back."""
        return bool(self._future)

    def record(self, before: Setup, gesture: str | None = None) -> None:
        """Remember the setup that is about to be replaced."""
        if gesture is None or gesture != self._gesture:
            self._past = [*self._past, before][-MAX_STEPS:]
        self._gesture = gesture
        self._future = []

    def end_gesture(self) -> None:
        """The next change is a step of its own."""
        self._gesture = None

    def undo(self, present: Setup) -> Setup:
        """The setup before `present`. Raises `IndexError` when there is none."""
        self._gesture = None
        before = self._past.pop()
        self._future.append(present)
        return before

    def redo(self, present: Setup) -> Setup:
        """The setup that was undone last. Raises `IndexError` when there is none."""
        self._gesture = None
        after = self._future.pop()
        self._past.append(present)
        return after
