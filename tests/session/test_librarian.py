"""What the user asks of the library is carried out, and what comes of it is taken in."""

import pytest
from library_cases import MODEL, RELEASE, STARTER, full_library

from microscope.core.library import (
    DownloadAdvanced,
    DownloadCancelled,
    DownloadFailed,
    DownloadFinished,
    DownloadReport,
    DownloadStarted,
    FreeMemory,
    LibraryContents,
    LookedAround,
)
from microscope.core.messages import OpenModel
from microscope.core.prompts import Prompt
from microscope.session.controller import Controller
from microscope.session.librarian import Librarian
from microscope.session.library import DownloadState
from microscope.session.session import Session
from microscope.session.setup import Setup
from microscope.storage.preferences import UnsavedPreferences


class Desk:
    def __init__(self):
        self.asked = []

    def look(self, folders, recent):
        self.asked.append(("look", folders, recent))

    def fetch(self, job):
        self.asked.append(("fetch", job))

    def cancel(self):
        self.asked.append(("cancel",))


class Opener:
    def __init__(self):
        self.opened = []

    def open_model(self, source, dtype="auto", saes=()):
        self.opened.append((source, dtype, saes))

    def open_saes(self, sources):
        self.opened.append(sources)


class Scope:
    def __init__(self, *, is_offline=False, **fields):
        self.library, self.desk, self.opener = full_library(**fields), Desk(), Opener()
        self.memo = UnsavedPreferences()
        self.memo.keep(offline=is_offline)
        self.librarian = Librarian(self.library, self.desk, self.memo, self.opener)

    def jobs(self):
        return [asked[1] for asked in self.desk.asked if asked[0] == "fetch"]

    def report(self, *events):
        key = self.library.download.key
        self.librarian.apply_all([DownloadReport(key, event) for event in events])


@pytest.fixture
def scope():
    return Scope()


def nothing_here():
    return Scope(contents=LibraryContents())


def test_a_starter_that_is_here_is_opened_at_once_with_its_saes(scope):
    scope.librarian.take_starter("Some", "bfloat16")
    saes = ("/cache/saes/layer_1", "/cache/saes/layer_3")
    assert scope.opener.opened == [("some/model", "bfloat16", saes)]
    assert scope.jobs() == []


def test_a_starter_that_is_not_here_is_fetched_and_then_opened():
    scope = nothing_here()
    scope.librarian.take_starter("Some")
    (job,) = scope.jobs()
    assert [part.repository for part in job.parts] == ["some/model", "some/saes"]
    assert scope.library.download == DownloadState("some/model", "Some")
    scope.report(DownloadStarted(100, 10), DownloadAdvanced(60, 100, "w.safetensors"))
    assert scope.library.download == DownloadState(
        "some/model", "Some", 60, 100, "w.safetensors"
    )
    assert scope.opener.opened == []
    scope.report(DownloadFinished(("/new/model", "/new/saes")))
    saes = ("/new/saes/layer_1", "/new/saes/layer_3")
    assert scope.opener.opened == [("some/model", "auto", saes)]
    assert scope.library.download is None
    assert scope.desk.asked[-1][0] == "look"


def test_a_starter_whose_saes_are_not_all_here_is_not_here():
    contents = LibraryContents(models=(MODEL,), saes={"some-saes": (1,)})
    scope = Scope(contents=contents)
    assert not scope.librarian.has_starter(STARTER)
    scope.librarian.take_starter("Some")
    assert len(scope.jobs()) == 1


def test_a_download_that_failed_says_why_until_it_is_begun_again():
    scope = nothing_here()
    scope.librarian.take_starter("Some")
    scope.report(DownloadFailed("The disk is full."))
    assert scope.library.failures == {"some/model": "The disk is full."}
    assert scope.library.download is None
    scope.librarian.fetch_model("some/model")
    assert scope.library.failures == {}
    scope.report(DownloadFinished(("/new/model",)))
    assert scope.opener.opened == []  # the second download was not a starter's


def test_a_cancelled_download_opens_nothing():
    scope = nothing_here()
    scope.librarian.take_starter("Some")
    scope.librarian.cancel()
    assert scope.desk.asked[-1] == ("cancel",)
    scope.report(DownloadCancelled())
    assert scope.library.download is None
    assert scope.library.failures == {}
    assert scope.opener.opened == []


def test_one_download_goes_on_at_a_time(scope):
    scope.librarian.fetch_saes("some-saes", [0])
    scope.librarian.fetch_saes("other-transcoders", [5])
    assert [job.key for job in scope.jobs()] == ["some-saes"]
    assert any("layer_0/*.json" in pattern for pattern in scope.jobs()[0].parts[0].patterns)


def test_offline_nothing_is_fetched():
    scope = Scope(is_offline=True, contents=LibraryContents())
    scope.librarian.take_starter("Some")
    scope.librarian.fetch_saes("some-saes", [0])
    scope.librarian.fetch_model("some/model")
    assert scope.jobs() == []
    assert scope.library.download is None


def test_going_offline_is_remembered_and_ends_a_download(scope):
    scope.librarian.set_offline(False)
    assert scope.desk.asked == []
    scope.librarian.fetch_saes("some-saes", [0])
    scope.librarian.set_offline(True)
    assert scope.desk.asked[-1] == ("cancel",)
    assert scope.memo.settings.offline
    assert scope.library.is_offline


def test_saes_that_are_here_are_opened_from_the_cache(scope):
    scope.librarian.open_saes("some-saes", [3])
    assert scope.opener.opened == [("/cache/saes/layer_3",)]


def test_folders_are_remembered_once_and_looked_into(scope):
    for folder in ("/a", "/b", "/a"):
        scope.librarian.add_folder(folder)
    assert scope.library.folders == ("/b", "/a") == scope.memo.settings.library_folders
    assert scope.desk.asked[-1] == ("look", ("/b", "/a"), ())
    scope.librarian.remove_folder("/b")
    assert scope.memo.settings.library_folders == ("/a",)


def test_a_look_is_asked_for_and_taken_in(scope):
    scope.librarian.remember("/models/large")
    scope.librarian.remember("/models/large")
    scope.librarian.refresh()
    assert scope.library.is_looking
    assert scope.desk.asked == [("look", (), ("/models/large",))]
    contents, free = LibraryContents(models=(MODEL,)), FreeMemory(5)
    scope.librarian.apply_all([LookedAround(contents, free)])
    assert (scope.library.contents, scope.library.free) == (contents, free)
    assert not scope.library.is_looking


def test_a_model_that_is_here_is_opened_as_asked(scope):
    scope.librarian.open_model("/models/large", "bfloat16")
    assert scope.opener.opened == [("/models/large", "bfloat16", ())]
    assert RELEASE.name in scope.library.contents.saes


class Shelf:
    def folder_of(self, source):
        return source

    def saes_of(self, source):
        return (f"{source}/saes",)

    def pages_of(self, model, sae):
        return {}


class Sink:
    def __init__(self):
        self.requests = []

    def submit(self, request):
        self.requests.append(request)

    def restart(self):
        pass


def test_the_engine_is_asked_for_the_dtype_and_the_saes_go_with_the_model():
    session, sink = Session(setup=Setup(model="m", prompt=Prompt("x"))), Sink()
    controller = Controller(session, sink, Shelf())
    controller.open_model("m", "8bit", ("/extra",))
    assert session.setup.saes == ("m/saes", "/extra")
    (request,) = [r for r in sink.requests if isinstance(r, OpenModel)]
    assert (request.source, request.dtype) == ("m", "8bit")
    controller.open_model("m", "4bit", ("/extra",))
    assert sink.requests[-1].dtype == "4bit"
    controller.undo()
    assert [r.dtype for r in sink.requests if isinstance(r, OpenModel)] == [
        "8bit",
        "4bit",
        "8bit",
    ]
