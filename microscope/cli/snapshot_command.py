"""`microscope snapshot`: the real window, offscreen, after the run has finished."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from microscope.cli.first_setup import first_setup
from microscope.core.errors import FileNotWritten, RunNotFinished, UserError
from microscope.storage.shelf import LocalShelf

if TYPE_CHECKING:
    import argparse

    from microscope.app import Microscope
    from microscope.session.session import EngineState, Session
    from microscope.session.setup import Setup

PATIENCE_S = 600.0


def run(options: argparse.Namespace) -> int:
    """Open, wait, grab, close."""
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from microscope.app import Microscope, application

    shelf = LocalShelf()
    app = application(options.theme)
    scope = Microscope(partial(_setup, shelf, options), shelf)
    narrator = Narrator()
    scope.session.events.engine.connect(narrator.tell)
    try:
        scope.window.resize(*options.size)
        scope.window.show()
        scope.start()
        scope.wait_until_idle(PATIENCE_S)
        _complain(scope.session)
        _select(scope, options.select)
        scope.settle()
        _save(scope, options)
    finally:
        scope.close()
        app.processEvents()
    return 0


class Narrator:
    """Says on stderr what the engine is doing; a long step again at every fifth of it."""

    def __init__(self) -> None:
        self._said = ""

    def tell(self, state: EngineState) -> None:
        """Say it, unless it was said already."""
        words = state.message
        if state.total:
            words += f" {100 * state.done // state.total // 20 * 20} %"
        if words != self._said:
            self._said = words
            sys.stderr.write(f"{words}\n")


def _setup(shelf: LocalShelf, options: argparse.Namespace) -> Setup:
    setup = first_setup(shelf, options.model, options.saes, options.prompt, options.clamps)
    return msgspec.structs.replace(
        setup,
        prompt=msgspec.structs.replace(setup.prompt, is_chat=options.chat),
        seed=options.seed,
        max_new_tokens=options.max_new_tokens,
    )


def _complain(session: Session) -> None:
    if session.failures:
        raise UserError(" ".join(session.failures.values()))
    if session.engine.status != "ready":
        raise RunNotFinished(f"The run did not finish: {session.engine.message}")


def _select(scope: Microscope, place: str | None) -> None:
    """Put the cursor on TOKEN:SITE, where SITE is a row number or a site's name."""
    lens = scope.session.lens
    if place is None or lens is None:
        return
    token, _, site = place.partition(":")
    row = (
        lens.sites.index(site) if site in lens.sites else int(site) if site.isdecimal() else -1
    )
    if not token.isdecimal() or int(token) >= lens.n_tokens or not 0 <= row < len(lens.sites):
        raise UserError(
            f"{place!r} is no cell of this reading. Write TOKEN:SITE with a token from 0 to "
            f"{lens.n_tokens - 1} and a site from 0 to {len(lens.sites) - 1} or by name."
        )
    scope.controller.choose_cell(int(token), row)


def _save(scope: Microscope, options: argparse.Namespace) -> None:
    if not scope.window.grab().save(str(options.out), "PNG"):
        raise FileNotWritten(f"The picture could not be written to {options.out}.")
    sys.stderr.write(f"The picture is in {options.out}\n")
    if options.print_texts:
        session = scope.session
        prompt = session.setup.prompt.text
        for name, text in (("baseline", session.baseline), ("steered", session.steered)):
            sys.stdout.write(f"{name}: {prompt}{''.join(w.token.text for w in text)}\n")
