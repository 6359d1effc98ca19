"""The import in its own process, real and made to misbehave."""

import sys
import threading

import pytest

from microscope.core.cards import SaeCard
from microscope.core.messages import LabelsImported, LabelsRefused
from microscope.storage.feature_pages import FeaturePages
from microscope.workers.label_importer import LabelImporter, sentence_in

SITE = "blocks.1.hook_resid_post"
SAE = SaeCard(f"{SITE}#2", "/s", SITE, "standard", 8, 8)


class Imports:
    """An importer, and what it has reported."""

    def __init__(self, command=None):
        self.events, self._came = [], threading.Event()
        self.importer = LabelImporter(self._take, command)

    def _take(self, event):
        self.events.append(event)
        self._came.set()

    def run(self, path, store):
        self.importer.import_labels(str(path), SAE, str(store))
        assert self._came.wait(60)
        self.importer.close()
        return self.events[0]


def test_labels_are_imported_and_counted(tmp_path):
    path, store = tmp_path / "-labels.csv", tmp_path / "deep" / "pages.sqlite"
    path.write_text("3,bridges\n4,ferries\n")
    event = Imports().run(path, store)
    assert isinstance(event, LabelsImported)
    assert event.sae == SAE.name
    assert "2 labels" in event.summary
    with FeaturePages(store) as pages:
        assert pages.pages_of(SITE)[3].label == "bridges"


def test_what_is_wrong_with_a_file_is_reported_in_its_own_sentence(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("9,too far")
    event = Imports().run(path, tmp_path / "pages.sqlite")
    assert isinstance(event, LabelsRefused)
    assert event.summary.startswith(str(path))
    assert event.summary.endswith("Choose the SAE that it was made for.")


def test_a_command_that_cannot_be_started_is_reported():
    event = Imports(["/nowhere/microscope"]).run("/x", "/y")
    assert isinstance(event, LabelsRefused)
    assert "could not be started" in event.summary


def test_closing_stops_an_import_and_starts_no_other():
    imports = Imports([sys.executable, "-c", "import time; time.sleep(600)"])
    imports.importer.import_labels("/x", SAE, "/y")
    imports.importer.close()
    imports.importer.import_labels("/x", SAE, "/y")
    imports.importer.close()
    assert imports.events == []


@pytest.mark.parametrize(
    ("complaints", "sentence"),
    [
        ("a warning\nmicroscope: It is damaged.\n", "It is damaged."),
        ("Traceback\nMemoryError\n", "The import of labels failed: MemoryError"),
        ("", "The import of labels failed: no reason given"),
    ],
)
def test_the_sentence_is_found_among_the_complaints(complaints, sentence):
    assert sentence_in(complaints) == sentence
