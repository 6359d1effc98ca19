"""When the open model and SAEs are checked, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.core.messages import CheckUp

if TYPE_CHECKING:
    from microscope.session.runs import Runs
    from microscope.session.session import Session
    from microscope.session.shelf import Shelf


class CheckUps:
    """A check-up is due when SAEs have been opened, and starts when the first text is there.

    One that the engine did not survive is not started again by itself.
    """

    def __init__(self, session: Session, shelf: Shelf, runs: Runs) -> None:
        self._session, self._shelf, self._runs = session, shelf, runs
        self._is_due = False

    def expect(self) -> None:
        """Other SAEs are being opened: what was found no longer holds."""
        self._runs.forget("checkup")
        self._session.checkup, self._session.is_checking_up = (), False
        self._is_due = "checkup" not in self._session.failures

    def start_if_due(self) -> None:
        """The engine has time: check, if it has not been done."""
        if self._is_due:
            self.start()

    def start(self) -> None:
        """Ask the engine to check everything."""
        session = self._session
        if session.model is None:
            return
        self._is_due, session.is_checking_up = False, True
        told = {sae.name: self._shelf.published_of(sae) for sae in session.saes}
        known = {name: values for name, values in told.items() if values}
        self._runs.submit("checkup", CheckUp(run_id=0, published=known))
