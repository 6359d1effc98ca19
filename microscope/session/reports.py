"""Takes the engine's events into the session. Sees current events only."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from microscope.core.messages import (
    TOP_TOKENS,
    CheckedUp,
    EngineLost,
    EngineReady,
    FeaturesRead,
    KlMeasured,
    LabelsImported,
    LabelsRefused,
    LensRead,
    ModelOpened,
    Progress,
    PromptTokenised,
    RunFailed,
    RunFinished,
    SaeOpened,
    SaeRefused,
    TextWritten,
)
from microscope.core.readings import FeatureReading, LensReading
from microscope.core.sites import lens_sites
from microscope.session.session import RESTARTING, Cursor, EngineState, WrittenToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from microscope.core.messages import AnyEvent, Slot
    from microscope.core.prompts import Token
    from microscope.session.runs import Runs
    from microscope.session.session import Place, Session
    from microscope.session.shelf import Shelf

CHECK_UP_ENDED_EARLY = (
    "The check-up did not come to its end, because the engine stopped. Check again with fewer "
    "SAEs open."
)

LEAST_MEASURED_S = 0.05
"""A text that is there sooner was kept from before, and says nothing of the speed."""

PLACES: dict[Slot, Place] = {
    "model": "model",
    "saes": "saes",
    "read": "prompt",
    "generate": "text",
    "checkup": "checkup",
}


class Reports:
    """What each kind of event changes in the session.

    A new run's reading takes the old one's place when its first cells arrive, not before,
    so the window does not blink while the user types or drags.
    """

    def __init__(
        self,
        session: Session,
        shelf: Shelf,
        runs: Runs,
        resume: Callable[[], None],
        carry_on: Callable[[Slot], None],
    ) -> None:
        self._session = session
        self._shelf = shelf
        self._runs = runs
        self._resume = resume
        self._carry_on = carry_on
        self._fresh_tokens: tuple[Token, ...] | None = None
        self._has_clamps = self._has_text = False
        self._writing_since = 0.0

    def expect_saes(self) -> None:
        """A request for SAEs is on its way: those in the session are reported again."""
        self._session.saes, self._session.pages = (), {}

    def expect_text(self, *, has_clamps: bool) -> None:
        """A request for text is on its way."""
        self._has_clamps, self._has_text = has_clamps, False
        self._writing_since = perf_counter()

    def apply(self, event: AnyEvent) -> None:
        """Change the session by one current event."""
        match event:
            case EngineReady():
                self._resume()
            case EngineLost():
                self._lose_engine(event)
            case Progress():
                self._progressed(event)
            case ModelOpened() | SaeOpened() | SaeRefused():
                self._opened(event)
            case PromptTokenised() | LensRead() | FeaturesRead():
                self._read(event)
            case TextWritten():
                self._written(event)
            case KlMeasured():
                self._measured(event)
            case CheckedUp() | LabelsImported() | LabelsRefused():
                self._noted(event)
            case RunFinished() | RunFailed():
                self._ended(event)

    def _progressed(self, event: Progress) -> None:
        # A check-up goes on beside everything else, and nobody waits for it.
        if self._runs.slot(event) != "checkup":
            self._session.engine = EngineState("loading", event.text, event.done, event.total)

    # -- the engine, the model and its SAEs ---------------------------------------

    def _lose_engine(self, event: EngineLost) -> None:
        session = self._session
        session.is_reading = session.is_writing = False
        if session.is_checking_up:
            session.is_checking_up = False
            self._fail("checkup", CHECK_UP_ENDED_EARLY)
        if session.engine == RESTARTING and event.will_restart:
            return  # the user has asked for it
        what_next = " It is being started again." if event.will_restart else ""
        session.engine = EngineState("lost", event.summary + what_next)

    def _opened(self, event: ModelOpened | SaeOpened | SaeRefused) -> None:
        session = self._session
        match event:
            case ModelOpened(model=model):
                session.model = model
                session.saes, session.features = (), {}
            case SaeOpened(sae=sae) if session.model:
                session.pages = {**session.pages, **self._shelf.pages_of(session.model, sae)}
                session.saes = (*session.saes, sae)
            case SaeRefused(summary=summary):
                said = session.failures.get("saes")
                self._fail("saes", f"{said}\n{summary}" if said else summary)

    def _noted(self, event: CheckedUp | LabelsImported | LabelsRefused) -> None:
        session = self._session
        match event:
            case CheckedUp(findings=findings):
                session.checkup = findings
            case LabelsImported(sae=name, summary=summary):
                session.news = summary
                self._show_pages_again(name)
            case LabelsRefused(summary=summary):
                session.news = "No labels were imported."
                self._fail("saes", summary)

    def _show_pages_again(self, name: str) -> None:
        session = self._session
        for sae in session.saes:
            if session.model and sae.name == name:
                pages = self._shelf.pages_of(session.model, sae)
                session.pages = {**session.pages, **pages}

    # -- a reading ------------------------------------------------------------------

    def _read(self, event: PromptTokenised | LensRead | FeaturesRead) -> None:
        match event:
            case PromptTokenised(tokens=tokens):
                if self._runs.slot(event) == "read":
                    self._fresh_tokens = tokens
            case LensRead():
                self._take_lens(event)
            case FeaturesRead():
                self._take_features(event)

    def _begin_reading(self) -> None:
        """Swap the old reading for an empty one, once, when the new one's first piece comes."""
        session, model, tokens = self._session, self._session.model, self._fresh_tokens
        if model is None or tokens is None:
            return
        self._fresh_tokens = None
        session.cursor = following(session.cursor, session.lens, len(tokens), model.n_layers)
        session.features = {}
        session.tokens = tokens
        session.lens = LensReading.empty(lens_sites(model.n_layers), tokens, TOP_TOKENS)

    def _take_lens(self, event: LensRead) -> None:
        self._begin_reading()
        if self._session.lens:
            self._session.lens = self._session.lens.with_cells(event)

    def _take_features(self, event: FeaturesRead) -> None:
        self._begin_reading()
        session = self._session
        reading = session.features.get(event.sae)
        if reading is None:
            shape = len(session.tokens), event.indices.shape[1]
            reading = FeatureReading.empty(event.sae, *shape)
        session.features = {**session.features, event.sae: reading.with_tokens(event)}

    def forget_reading(self) -> None:
        """There is no prompt: what was read and written of another one goes."""
        session = self._session
        self._fresh_tokens = None
        session.tokens, session.lens, session.features = (), None, {}
        session.baseline = session.steered = ()

    # -- the text ---------------------------------------------------------------------

    def _written(self, event: TextWritten) -> None:
        session, self._has_text = self._session, True
        fresh = tuple(map(WrittenToken, event.tokens, event.probabilities))
        if event.stream == "baseline":
            session.baseline = (*session.baseline[: event.position], *fresh)
        else:
            session.steered = (*session.steered[: event.position], *fresh)
        if event.stream == "baseline" and not self._has_clamps:
            session.steered = session.baseline
        n_written = event.position + len(fresh)
        elapsed_s = perf_counter() - self._writing_since
        if n_written > 1 and elapsed_s > LEAST_MEASURED_S:
            session.tokens_per_second = n_written / elapsed_s

    def _measured(self, event: KlMeasured) -> None:
        text = list(self._session.steered)
        for position, kl in enumerate(event.values.tolist(), event.position):
            if position < len(text):
                text[position] = msgspec.structs.replace(text[position], kl=kl)
        self._session.steered = tuple(text)

    # -- the end of a run ---------------------------------------------------------------

    def _ended(self, event: RunFinished | RunFailed) -> None:
        session, slot = self._session, self._runs.slot(event)
        if slot is None:
            return
        self._runs.forget(slot)
        if slot == "read":
            session.is_reading = False
        elif slot == "generate":
            self._end_text(event)
        elif slot == "checkup":
            session.is_checking_up = False
        if isinstance(event, RunFailed):
            self._fail(PLACES[slot], event.summary)
        if slot in ("model", "saes"):
            self._after_opening(slot, has_failed=isinstance(event, RunFailed))
        elif slot != "checkup" and not (session.is_reading or session.is_writing):
            self._carry_on(slot)

    def _end_text(self, event: RunFinished | RunFailed) -> None:
        session = self._session
        session.is_writing = False
        if isinstance(event, RunFinished) and not self._has_text:
            # The prompt fills the context: the old text must not stand behind it.
            session.baseline = session.steered = ()

    def _after_opening(self, slot: Slot, *, has_failed: bool) -> None:
        session = self._session
        if slot == "model" and has_failed:
            self.expect_saes()  # those of the model before went with it, and so did its text
            self.forget_reading()
            session.engine = EngineState("ready", "No model is open")
            return
        session.engine = EngineState("ready", "Ready")
        self._carry_on(slot)

    def _fail(self, place: Place, summary: str) -> None:
        self._session.failures = {**self._session.failures, place: summary}


def following(
    cursor: Cursor, before: LensReading | None, n_tokens: int, n_layers: int
) -> Cursor:
    """Where the cursor goes with a new prompt.

    It starts at the last token's output; at the end of a prompt it follows the typing.
    """
    if before is None:
        return Cursor(n_tokens - 1, n_layers, cursor.feature)
    was_last = cursor.token >= before.n_tokens - 1
    token = n_tokens - 1 if was_last else min(cursor.token, n_tokens - 1)
    return Cursor(token, min(cursor.site, n_layers), cursor.feature)
