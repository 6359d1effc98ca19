"""Turns what the user asks for into requests, and what the engine reports into state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from microscope.core.features import CLAMP_MODES, Clamp
from microscope.core.messages import Cancel, Generate, OpenModel, OpenSaes, Read
from microscope.core.prompts import Prompt, is_empty
from microscope.session import clamps, closing
from microscope.session.batching import heard_together
from microscope.session.checkups import CheckUps
from microscope.session.history import History, is_replaced, typing_gesture
from microscope.session.label_imports import LabelImports
from microscope.session.reports import Reports
from microscope.session.runs import Runs
from microscope.session.session import RESTARTING, Cursor, EngineState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from microscope.core.features import FeatureId
    from microscope.core.messages import AnyEvent, AnyRequest, Slot
    from microscope.core.prompts import Sampler
    from microscope.session.label_imports import LabelSink
    from microscope.session.session import Place, Session
    from microscope.session.setup import Setup
    from microscope.session.shelf import Shelf


SLOTS_OF_A_PROMPT: tuple[Slot, ...] = ("read", "generate")


class RequestSink(Protocol):
    """Where requests go: the engine's worker in the app, a list in tests."""

    def submit(self, request: AnyRequest) -> None:
        """Send a request; a newer one of its kind takes its place."""
        ...

    def restart(self) -> None:
        """End the engine, whatever it does, and start another."""
        ...


class Controller:
    """Every intention of the user is a method here; every event comes in through `apply`."""

    def __init__(
        self,
        session: Session,
        sink: RequestSink,
        shelf: Shelf,
        labels: LabelSink | None = None,
    ) -> None:
        self._session = session
        self._sink = sink
        self._shelf = shelf
        self._history = History()
        self._runs = Runs(sink.submit)
        self._reports = Reports(session, shelf, self._runs, self._resume, self._carry_on)
        self._checkups = CheckUps(session, shelf, self._runs)
        self._label_imports = LabelImports(session, shelf, labels)

    # -- intentions: the prompt and the cursor --------------------------------

    def set_prompt(self, text: str) -> None:
        """Replace the prompt's text; the model reads and writes at once."""
        before = self._session.setup.prompt
        prompt = Prompt(text, is_chat=before.is_chat)
        if is_replaced(before.text, text):
            self._history.end_gesture()
        self._change(gesture=typing_gesture(before.text, text), prompt=prompt)

    def set_chat(self, is_chat: bool) -> None:
        """Put the prompt into the chat template, or take it out."""
        self._change(prompt=Prompt(self._session.setup.prompt.text, is_chat=is_chat))

    def choose_token(self, token: int) -> None:
        """Move the cursor to a token."""
        self._move_cursor(token=token)

    def choose_cell(self, token: int, site: int) -> None:
        """Move the cursor to a token and a row of the lens."""
        self._move_cursor(token=token, site=site)

    def choose_feature(self, feature: FeatureId | None) -> None:
        """Move the cursor to a feature, or off it."""
        self._move_cursor(feature=feature)

    # -- intentions: clamps ----------------------------------------------------

    def add_clamp(self, feature: FeatureId) -> None:
        """Put a feature on the rack, held at its maximum where that is known."""
        session = self._session
        if any(clamp.feature == feature for clamp in session.setup.clamps):
            return self.choose_feature(feature)
        value = clamps.first_value(feature, session.pages, session.features)
        self.choose_feature(feature)
        return self._change(clamps=(*session.setup.clamps, Clamp(feature, value)))

    def set_clamp_value(self, feature: FeatureId, value: float) -> None:
        """Hold a feature at another value; the moves of one drag are one undo step."""
        self._edit_clamp(feature, gesture=f"value {feature}", value=value)

    def set_clamp_mode(self, feature: FeatureId, mode: str) -> None:
        """Clamp, add, scale or ablate. Raises `ValueError` for another mode."""
        self._edit_clamp(feature, mode=CLAMP_MODES[CLAMP_MODES.index(mode)])

    def mute_clamp(self, feature: FeatureId, is_muted: bool) -> None:
        """Let a clamp rest without forgetting it."""
        self._edit_clamp(feature, is_muted=is_muted)

    def remove_clamp(self, feature: FeatureId) -> None:
        """Take a clamp off the rack."""
        self._change(clamps=clamps.without(self._session.setup.clamps, feature))

    def end_gesture(self) -> None:
        """The mouse was released: the next change is a step of its own."""
        self._history.end_gesture()

    # -- intentions: how the text is written -----------------------------------

    def set_sampler(self, sampler: Sampler) -> None:
        """Draw tokens in another way."""
        self._change(gesture="sampler", sampler=sampler)

    def set_seed(self, seed: int) -> None:
        """Use other draws, for baseline and steered text alike."""
        self._change(gesture="seed", seed=seed)

    def set_max_new_tokens(self, n_tokens: int) -> None:
        """Write at most this many tokens."""
        self._change(gesture="length", max_new_tokens=n_tokens)

    def regenerate(self) -> None:
        """Read and write again."""
        if self._session.model is None:
            self._open_model()
        else:
            self._read()
            self._generate()

    def stop(self) -> None:
        """Stop writing; what is written stays."""
        self._cancel("generate")
        self._session.is_writing = False

    # -- intentions: model, SAEs, history, engine -------------------------------

    def open_model(self, source: str, dtype: str = "auto", saes: tuple[str, ...] = ()) -> None:
        """Open another model, with the SAEs that come with it, `saes` and no clamps."""
        with_it = (*self._shelf.saes_of(source), *saes)
        self._change(model=source, dtype=dtype, saes=with_it, clamps=())

    def open_saes(self, sources: tuple[str, ...]) -> None:
        """Open SAEs besides those that are open."""
        known = self._session.setup.saes
        fresh = tuple(source for source in sources if source not in known)
        self._change(saes=(*known, *fresh))

    def close_sae(self, name: str) -> None:
        """Close an SAE, and drop its clamps."""
        session, setup = self._session, self._session.setup
        names = closing.names_without(session.saes, name)
        chosen = session.cursor.feature
        if chosen:
            is_gone = chosen.sae == name
            self.choose_feature(None if is_gone else closing.renamed(chosen, names))
        self._change(
            saes=closing.sources_without(setup.saes, session.saes, name),
            clamps=closing.clamps_without(setup.clamps, name, names),
        )

    def undo(self) -> None:
        """Take back the last change."""
        if self._history.can_undo:
            self._install(self._history.undo(self._session.setup))

    def redo(self) -> None:
        """Make the change again that was taken back."""
        if self._history.can_redo:
            self._install(self._history.redo(self._session.setup))

    def check_up(self) -> None:
        """Measure again whether the open model and SAEs are what they seem."""
        self._forget("checkup")
        self._checkups.start()

    def import_labels(self, path: str, sae: str = "") -> None:
        """Bring labels in from a file or folder for an open SAE.

        Without a name it is the SAE of the layer that the file names, or the only one open.
        """
        self._forget("saes")
        self._label_imports.start(path, sae)

    def restart_engine(self) -> None:
        """End the engine process and start another; the last request is repeated."""
        self._session.engine = RESTARTING
        self._sink.restart()

    # -- reports, called by the bridge on the GUI thread -------------------------

    def apply(self, event: AnyEvent) -> None:
        """Take an event of the engine's into the session, unless its run is outdated."""
        if self._runs.is_current(event):
            self._reports.apply(event)

    def apply_all(self, events: Sequence[AnyEvent]) -> None:
        """Take a batch of events in order; listeners hear of the outcome, once a field."""
        with heard_together(self._session):
            for event in events:
                self.apply(event)

    # -- from setup to requests ---------------------------------------------------

    def _change(self, gesture: str | None = None, **fields: object) -> None:
        before = self._session.setup
        after = msgspec.structs.replace(before, **fields)
        if after == before:
            return
        self._history.record(before, gesture)
        self._install(after)

    def _install(self, after: Setup) -> None:
        session, before = self._session, self._session.setup
        session.setup = after
        session.can_undo, session.can_redo = self._history.can_undo, self._history.can_redo
        if (after.model, after.saes) != (before.model, before.saes):
            self._forget("checkup")
        if (after.model, after.dtype) != (before.model, before.dtype):
            self._open_model()
        elif session.model is None:
            return  # everything is asked for when the model is there
        elif after.saes != before.saes:
            self._open_saes()
        else:
            self._ask_again(before, after)

    def _ask_again(self, before: Setup, after: Setup) -> None:
        if after.prompt != before.prompt:
            self._read()
        if (after.prompt, after.sampler, after.seed, after.max_new_tokens) != (
            before.prompt,
            before.sampler,
            before.seed,
            before.max_new_tokens,
        ) or clamps.active(after.clamps) != clamps.active(before.clamps):
            self._generate()

    def _resume(self) -> None:
        """The engine is new and empty: ask for everything again."""
        self._open_model()

    def _carry_on(self, slot: Slot) -> None:
        """A run has ended: go on with what waited for it."""
        if slot == "model":
            self._open_saes()
        elif slot == "saes":
            self.regenerate()
        else:
            self._checkups.start_if_due()

    def _open_model(self) -> None:
        session = self._session
        session.model = None
        session.is_reading = session.is_writing = False
        session.engine = EngineState("loading", "Opening the model")
        self._forget("model")
        for slot in ("saes", "read", "generate"):
            self._runs.forget(slot)
        self._checkups.expect()
        source = self._shelf.folder_of(session.setup.model)
        dtype = session.setup.dtype
        self._runs.submit("model", OpenModel(run_id=0, source=source, dtype=dtype))

    def _open_saes(self) -> None:
        self._forget("saes")
        self._session.engine = EngineState("loading", "Opening the SAEs")
        self._reports.expect_saes()
        self._checkups.expect()
        self._runs.submit("saes", OpenSaes(run_id=0, sources=self._session.setup.saes))

    def _read(self) -> None:
        self._forget("prompt")
        if is_empty(self._session.setup.prompt):
            self._read_nothing()
            return
        self._session.is_reading = True
        self._runs.submit("read", Read(run_id=0, prompt=self._session.setup.prompt))

    def _read_nothing(self) -> None:
        """With no prompt nothing is known of it, and nothing is wrong either."""
        session = self._session
        for slot in SLOTS_OF_A_PROMPT:
            self._cancel(slot)
        self._reports.forget_reading()
        session.is_reading = session.is_writing = False
        self._checkups.start_if_due()

    def _generate(self) -> None:
        setup = self._session.setup
        self._forget("text")
        if is_empty(setup.prompt):
            return
        self._session.is_writing = True
        self._reports.expect_text(has_clamps=bool(clamps.active(setup.clamps)))
        self._runs.submit(
            "generate",
            Generate(
                run_id=0,
                prompt=setup.prompt,
                clamps=clamps.active(setup.clamps),
                sampler=setup.sampler,
                seed=setup.seed,
                max_new_tokens=setup.max_new_tokens,
            ),
        )

    def _cancel(self, slot: Slot) -> None:
        self._runs.forget(slot)
        self._sink.submit(Cancel(run_id=0, slot=slot))

    def _forget(self, place: Place) -> None:
        """A new run begins: what was said about the old one no longer holds."""
        failures = self._session.failures
        self._session.failures = {key: text for key, text in failures.items() if key != place}

    def _edit_clamp(
        self, feature: FeatureId, gesture: str | None = None, **fields: object
    ) -> None:
        edited = clamps.edited(self._session.setup.clamps, feature, **fields)
        self._change(gesture=gesture, clamps=edited)

    def _move_cursor(self, **fields: object) -> None:
        cursor: Cursor = msgspec.structs.replace(self._session.cursor, **fields)
        self._session.cursor = cursor
