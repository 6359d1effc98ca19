"""The engine with weights: one open model, its SAEs, and the kinds of request."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import msgspec
import torch

from microscope.core.cards import own_name, unique_name
from microscope.core.errors import NotReady, UserError
from microscope.core.messages import (
    PROTOCOL_VERSION,
    CheckUp,
    EngineReady,
    Generate,
    ModelOpened,
    OpenModel,
    OpenSaes,
    Progress,
    Read,
    SaeOpened,
    SaeRefused,
)
from microscope.engine.checkup import check_up
from microscope.engine.interrupting import never
from microscope.engine.language_model import LanguageModel
from microscope.engine.reading import read
from microscope.engine.saes.loading import find_saes, open_sae
from microscope.engine.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from microscope.core.messages import AnyEvent, AnyRequest
    from microscope.engine.saes.sae import Sae

LIBRARIES = ("microscope", "torch", "transformers", "safetensors", "numpy")


class ModelEngine:
    """Holds the model and the SAEs by name; each request is a generator of events."""

    def __init__(self) -> None:
        self._model: LanguageModel | None = None
        self._writer: Writer | None = None
        self._saes: dict[str, Sae] = {}
        self._should_stop: Callable[[], bool] = never

    def heed(self, should_stop: Callable[[], bool]) -> None:
        """While writing, ask before every block, and raise `Interrupted` when it says yes."""
        self._should_stop = should_stop

    def hello(self) -> EngineReady:
        """Versions and devices."""
        return EngineReady(
            run_id=0, protocol=PROTOCOL_VERSION, versions=versions(), devices=devices()
        )

    def handle(self, request: AnyRequest) -> Generator[AnyEvent]:
        """The events of a request.

        Raises:
            UserError: what the user can put right.
        """
        match request:
            case OpenModel():
                yield from self._open_model(request)
            case OpenSaes():
                yield from self._open_saes(request)
            case Read():
                yield from read(self._open_one(), self._saes, request)
            case Generate():
                self._open_one()
                if self._writer:
                    yield from self._writer.write(self._saes, request)
            case CheckUp():
                yield from check_up(self._open_one(), self._saes, request)

    def text(self, ids: Sequence[int]) -> str:
        """Ids as text, special tokens left out. Raises `NotReady` without a model."""
        return self._open_one().text(ids)

    def _open_one(self) -> LanguageModel:
        if self._model is None:
            raise NotReady("No model is open. Open one first (File, Open model folder).")
        return self._model

    def _open_model(self, request: OpenModel) -> Generator[AnyEvent]:
        yield Progress(run_id=request.run_id, text="Loading the model")
        # Both models at once may not fit: the old one goes first.
        self._model = self._writer = None
        self._saes = {}
        model = LanguageModel.open(request.source, request.device, request.dtype)
        self._model, self._writer = model, Writer(model, self._should_stop)
        yield ModelOpened(run_id=request.run_id, model=model.card)

    def _open_saes(self, request: OpenSaes) -> Generator[AnyEvent]:
        model = self._open_one()
        known = {sae.card.source: sae for sae in self._saes.values()}
        self._saes = {}
        sources, refusals = expand(request.sources)
        for source, summary in refusals.items():
            yield SaeRefused(run_id=request.run_id, source=source, summary=summary)
        for done, source in enumerate(sources):
            yield Progress(
                run_id=request.run_id, text="Loading the SAEs", done=done, total=len(sources)
            )
            try:
                sae = known.get(source) or open_sae(source, model)
            except UserError as error:
                yield SaeRefused(run_id=request.run_id, source=source, summary=str(error))
                continue
            # By the order of the sources alone: after a restart clamps mean the same SAEs.
            sae = called(sae, unique_name(own_name(sae.card.name), self._saes))
            self._saes[sae.card.name] = sae
            yield SaeOpened(run_id=request.run_id, sae=sae.card)


def called(sae: Sae, name: str) -> Sae:
    """The same SAE under a name."""
    if sae.card.name == name:
        return sae
    return replace(sae, card=msgspec.structs.replace(sae.card, name=name))


def expand(sources: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Each SAE folder once, for folders that may hold several; and what cannot be read."""
    found: dict[str, None] = {}
    refusals = {}
    for source in sources:
        try:
            # What holds no SAE is kept: opening it says why.
            found.update(dict.fromkeys(find_saes(source) or [source]))
        except UserError as error:
            refusals[source] = str(error)
    return list(found), refusals


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    known = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            known[library] = version(library)
        except PackageNotFoundError:
            known[library] = "not installed"
    return known


def devices() -> tuple[str, ...]:
    """The devices that torch can use, best first."""
    found = []
    if torch.cuda.is_available():
        found += [
            f"cuda:{n} {torch.cuda.get_device_name(n)}"
            for n in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")
