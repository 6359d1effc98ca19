"""Where models, their SAEs and what is known of their features stand on this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from microscope.core.cards import SPECIMEN
from microscope.core.errors import InstallationBroken, UserError
from microscope.core.features import FeatureId
from microscope.core.pages import Demo, FeatureDetails, FeaturePage
from microscope.storage.feature_pages import FeaturePages, merged
from microscope.storage.label_import import layer_named_in
from microscope.storage.paths import resources, user_data
from microscope.storage.published_saes import labels_store, published_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.core.checkup import Published

log = logging.getLogger(__name__)

CONFIG = "config.json"
SAES = "saes"
PAGES = "pages.sqlite"
DEMOS = "demos.json"
MAX_DEMOS_BYTES = 1 << 20


class DemoRow(msgspec.Struct, frozen=True):
    """A demonstration as it stands in `demos.json`."""

    prompt: str
    sae: str
    index: int
    value: float
    label: str = ""
    max: float = 0.0
    note: str = ""

    def demo(self) -> Demo:
        """The demonstration in the program's own words."""
        feature = FeatureId(self.sae, self.index)
        return Demo(self.prompt, feature, self.value, self.label, self.max, self.note)


class LocalShelf:
    """Looks things up in folders; every answer is read afresh."""

    def folder_of(self, source: str) -> str:
        """The folder of the specimen; any other source stands for itself."""
        return str(specimen_folder()) if source == SPECIMEN else source

    def saes_of(self, source: str) -> tuple[str, ...]:
        """The folder `saes` beside a model's files, where there is one."""
        folder = Path(self.folder_of(source)) / SAES
        return (str(folder),) if folder.is_dir() else ()

    def pages_of(self, model: ModelCard, sae: SaeCard) -> Mapping[FeatureId, FeaturePage]:
        """Pages that come with the model, if the SAE is its own, and what was imported."""
        folder = Path(model.source)
        is_own = folder / SAES in Path(sae.source).parents
        pages = _pages_in(folder / PAGES, sae.name) if is_own else {}
        for index, told in _pages_in(labels_store(sae), sae.site).items():
            feature = FeatureId(sae.name, index)
            pages[index] = merged(pages.get(index, FeaturePage(feature)), told)
        return {page.feature: page for page in pages.values()}

    def details_of(self, model: ModelCard, sae: SaeCard, index: int) -> FeatureDetails:
        """All else that is known of a feature: what was imported, else what the model has."""
        feature = FeatureId(sae.name, index)
        own = Path(model.source) / PAGES
        for store, name in ((labels_store(sae), sae.site), (own, sae.name)):
            found = _details_in(store, FeatureId(name, index))
            details = msgspec.structs.replace(found, feature=feature) if found else None
            if details and details != FeatureDetails(feature):
                return details
        return FeatureDetails(feature)

    def labels_store(self, sae: SaeCard) -> str:
        """The file that labels imported for an SAE go into; it calls the SAE by its site."""
        return str(labels_store(sae))

    def layer_named_in(self, path: str) -> int | None:
        """The layer that a file of labels says it is about. Raises `LabelsUnreadable`."""
        return layer_named_in(Path(path))

    def published_of(self, sae: SaeCard) -> Published | None:
        """What the makers of an SAE measured, if it is of a known release."""
        return published_of(sae)

    def demos_of(self, source: str) -> tuple[Demo, ...]:
        """Demonstrations from `demos.json` beside the model's files; none if unreadable."""
        path = Path(self.folder_of(source)) / DEMOS
        try:
            if path.stat().st_size > MAX_DEMOS_BYTES:
                return ()
            rows = msgspec.json.decode(path.read_bytes(), type=list[DemoRow])
        except (OSError, msgspec.MsgspecError):
            log.info("no demonstrations in %s", path)
            return ()
        return tuple(row.demo() for row in rows)


def _pages_in(store: Path, sae: str) -> dict[int, FeaturePage]:
    """The pages that a store has of an SAE; none if it cannot be read."""
    if not store.is_file():
        return {}
    try:
        with FeaturePages(store) as pages:
            return pages.pages_of(sae)
    except UserError:
        log.warning("the feature pages in %s cannot be read", store, exc_info=True)
        return {}


def _details_in(store: Path, feature: FeatureId) -> FeatureDetails | None:
    """What a store has of a feature; None if there is no store or it cannot be read."""
    if not store.is_file():
        return None
    try:
        with FeaturePages(store) as pages:
            return pages.details(feature)
    except UserError:
        log.warning("the feature pages in %s cannot be read", store, exc_info=True)
        return None


def specimen_folder() -> Path:
    """The bundled model's folder, or the place where a stand-in for it is made."""
    try:
        bundled = resources() / SPECIMEN
    except InstallationBroken:
        bundled = None
    if bundled and (bundled / CONFIG).is_file():
        return bundled
    return user_data() / SPECIMEN


def has_specimen() -> bool:
    """Whether there is a specimen to open."""
    return (specimen_folder() / CONFIG).is_file()
