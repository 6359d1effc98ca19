"""Leaving a forward pass between two blocks when something newer waits."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from microscope.engine.architectures.anatomy import Anatomy


class Interrupted(Exception):
    """The pass was left because its result is not wanted any more."""


def never() -> bool:
    """The answer of somebody who waits for every result."""
    return False


@contextmanager
def interruptible(anatomy: Anatomy, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Ask before every block of the passes in the `with` block; raise `Interrupted` on yes."""
    if should_stop is never:
        yield
        return

    def ask(*_: object) -> None:
        if should_stop():
            raise Interrupted

    with ExitStack() as stack:
        for block in anatomy.blocks:
            stack.callback(block.register_forward_pre_hook(ask).remove)
        yield
