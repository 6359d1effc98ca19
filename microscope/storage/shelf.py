"""Where models, their SAEs and what is known of their features stand on this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from microscope.core.cards import SPECIMEN
from microscope.core.errors import InstallationBroken, UserError
from microscope.core.features import FeatureId
from microscope.core.pages import Demo
from microscope.storage.feature_pages import FeaturePages
from microscope.storage.paths import resources, user_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from microscope.core.cards import ModelCard, SaeCard
    from microscope.core.pages import FeaturePage

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
        """Pages from `pages.sqlite` beside the model's files, if the SAE is its own."""
        folder = Path(model.source)
        store = folder / PAGES
        if not store.is_file() or folder / SAES not in Path(sae.source).parents:
            return {}
        try:
            with FeaturePages(store) as pages:
                return {page.feature: page for page in pages.pages_of(sae.name).values()}
        except UserError:
            log.warning("the feature pages of %s cannot be read", model.name, exc_info=True)
            return {}

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
