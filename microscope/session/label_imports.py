"""Labels from files: for which open SAE they are, and who brings them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from microscope.core.errors import LabelsUnreadable, UserError
from microscope.core.sites import Site, parse_site

if TYPE_CHECKING:
    from microscope.core.cards import SaeCard
    from microscope.session.session import Session
    from microscope.session.shelf import Shelf


class LabelSink(Protocol):
    """Where imports of labels go; what came of one is reported as an event."""

    def import_labels(self, path: str, sae: SaeCard, store: str) -> None:
        """Bring labels in from a file for an SAE, into a store that calls it by its site."""
        ...


class LabelImports:
    """Starts imports, and says in the session what it started or why it did not."""

    def __init__(self, session: Session, shelf: Shelf, sink: LabelSink | None) -> None:
        self._session, self._shelf, self._sink = session, shelf, sink

    def start(self, path: str, name: str) -> None:
        """Bring labels in for the SAE of a name, or for the one that the file fits."""
        session = self._session
        try:
            sae = target(session.saes, name, path, self._shelf)
        except UserError as error:
            session.failures = {**session.failures, "saes": str(error)}
            return
        if self._sink:
            session.news = f"Importing labels for {sae.name}"
            self._sink.import_labels(path, sae, self._shelf.labels_store(sae))


def target(saes: tuple[SaeCard, ...], name: str, path: str, shelf: Shelf) -> SaeCard:
    """The open SAE of a name; without one, that of the layer that the file names.

    Raises:
        LabelsUnreadable: there is no such SAE, or the choice is left open, or the file is
            damaged.
    """
    if name:
        named = [sae for sae in saes if sae.name == name]
    else:
        layer = shelf.layer_named_in(path)
        named = [sae for sae in saes if layer in (layer_of(sae), None)]
    if len(named) != 1:
        names = ", ".join(sae.name for sae in saes) or "none; open one first"
        raise LabelsUnreadable(
            f"Which SAE the labels in {path} are for is not clear. Choose one of those that "
            f"are open: {names}."
        )
    return named[0]


def layer_of(sae: SaeCard) -> int:
    """The layer that an SAE reads; -1 where its site does not tell."""
    try:
        site = parse_site(sae.site)
    except ValueError:
        return -1
    return site.layer if isinstance(site, Site) else -1
