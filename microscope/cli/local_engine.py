"""The engine inside the command's own process: the same events as the window gets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import msgspec

from microscope.core.cards import SPECIMEN, ModelCard, SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.messages import ModelOpened, OpenModel, OpenSaes, SaeOpened, SaeRefused
from microscope.engine.model_engine import ModelEngine
from microscope.storage.shelf import LocalShelf, has_specimen, specimen_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from microscope.core.messages import AnyEvent, AnyRequest

Kind = TypeVar("Kind")


class LocalEngine:
    """A model with its SAEs, open."""

    def __init__(self, model: str, saes: list[str]) -> None:
        if model == SPECIMEN and not has_specimen():
            make_specimen()
        shelf = LocalShelf()
        self._engine = ModelEngine()
        source = shelf.folder_of(model)
        opened = self.ask(OpenModel(run_id=0, source=source), ModelOpened)
        self.model: ModelCard = next(opened).model
        sources = (*shelf.saes_of(model), *saes)
        self.saes: list[SaeCard] = []
        for event in self._engine.handle(OpenSaes(run_id=0, sources=sources)):
            if isinstance(event, SaeRefused):
                raise SaeUnreadable(event.summary)
            if isinstance(event, SaeOpened):
                self.saes.append(event.sae)
        self.pages = {
            feature: page
            for sae in self.saes
            for feature, page in shelf.pages_of(self.model, sae).items()
        }

    def ask(self, request: AnyRequest, kind: type[Kind]) -> Iterator[Kind]:
        """The events of one kind that a request gives."""
        return (event for event in self.events(request) if isinstance(event, kind))

    def events(self, request: AnyRequest) -> Iterator[AnyEvent]:
        """All events of a request."""
        return self._engine.handle(request)

    def text(self, ids: list[int]) -> str:
        """Ids as text, special tokens left out."""
        return self._engine.text(ids)

    def describe(self) -> dict[str, object]:
        """The model as a JSON object."""
        described: dict[str, object] = msgspec.to_builtins(self.model)
        return described


def make_specimen() -> None:
    """Make the stand-in specimen, with progress on stderr."""
    from microscope.specimen.build import build
    from microscope.specimen.recipe import STAND_IN

    sys.stderr.write("There is no specimen yet: making a small one (about a minute).\n")

    def show(text: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{text} {done}/{total}".ljust(70))
        sys.stderr.flush()

    build(STAND_IN, specimen_folder(), show)
    sys.stderr.write("\n")
