"""When check-ups are asked for, and where imported labels go."""

import pytest

from microscope.core.cards import SaeCard
from microscope.core.checkup import Published
from microscope.core.errors import LabelsUnreadable
from microscope.core.features import FeatureId
from microscope.core.messages import (
    CheckedUp,
    CheckUp,
    EngineLost,
    EngineReady,
    LabelsImported,
    LabelsRefused,
    RunFailed,
    RunFinished,
)
from microscope.core.pages import FeaturePage
from microscope.core.prompts import Prompt
from microscope.core.sites import resid_post
from microscope.engine.fake import FakeEngine
from microscope.engine.server import Jobs
from microscope.session.controller import Controller
from microscope.session.label_imports import target
from microscope.session.session import Session
from microscope.session.setup import Setup

READY = EngineReady(run_id=0, protocol=1, versions={}, devices=("cpu",))
FIRST, SECOND = resid_post(0), resid_post(1)


class Shelf:
    """Two SAEs' worth of knowledge; `labels` are found once they are imported."""

    def __init__(self):
        self.labels = {}
        self.layer = None

    def folder_of(self, source):
        return source

    def saes_of(self, source):
        return ()

    def pages_of(self, model, sae):
        return {FeatureId(sae.name, n): page for n, page in self.labels.items()}

    def published_of(self, sae):
        return Published(l0=3.0) if sae.name == FIRST else None

    def labels_store(self, sae):
        return f"/pages/{sae.site}"

    def layer_named_in(self, path):
        if path == "damaged":
            raise LabelsUnreadable("The file is damaged.")
        return self.layer


class Scope:
    def __init__(self):
        self.session = Session(
            setup=Setup(prompt=Prompt("one two"), saes=("/a", "/b"), max_new_tokens=3)
        )
        self.shelf, self.sent, self.imports = Shelf(), [], []
        self.controller = Controller(self.session, self, self.shelf, self)
        self.jobs = Jobs(FakeEngine(0), self.controller.apply)
        self.waiting = []

    def submit(self, request):
        self.sent.append(request)
        self.waiting.append(request)

    def import_labels(self, path, sae, store):
        self.imports.append((path, sae.name, store))

    def run(self):
        while self.waiting or self.jobs:
            for request in self.waiting:
                self.jobs.start(request)
            self.waiting = []
            self.jobs.advance()

    def start(self):
        self.controller.apply(READY)
        self.run()
        return self

    @property
    def checks(self):
        return [request for request in self.sent if isinstance(request, CheckUp)]


@pytest.fixture
def scope():
    return Scope().start()


def test_a_check_up_follows_the_first_text_with_what_is_published(scope):
    assert isinstance(scope.sent[-1], CheckUp)
    assert scope.checks[0].published == {FIRST: Published(l0=3.0)}
    assert [finding.name for finding in scope.session.checkup] == ["Logits", FIRST, SECOND]
    assert not scope.session.is_checking_up
    assert scope.session.engine.status == "ready"


def test_it_is_asked_for_once_and_again_when_saes_change_or_the_user_asks(scope):
    scope.controller.set_prompt("three")
    scope.run()
    assert len(scope.checks) == 1
    scope.controller.close_sae(SECOND)
    assert scope.session.checkup == ()
    scope.run()
    assert len(scope.checks) == 2
    assert [finding.name for finding in scope.session.checkup] == ["Logits", FIRST]
    scope.controller.check_up()
    assert scope.session.is_checking_up
    assert len(scope.session.checkup) == 2
    scope.run()
    assert len(scope.checks) == 3


def test_findings_of_an_outdated_check_up_are_dropped(scope):
    scope.controller.check_up()
    old = scope.checks[-1].run_id
    scope.controller.close_sae(SECOND)
    scope.controller.apply(CheckedUp(run_id=old, findings=()))
    scope.controller.apply(RunFinished(run_id=old))
    scope.run()
    assert [finding.name for finding in scope.session.checkup] == ["Logits", FIRST]


def test_a_check_up_that_fails_says_why_and_one_that_is_asked_for_forgets_it(scope):
    scope.controller.check_up()
    run_id = scope.checks[-1].run_id
    scope.controller.apply(RunFailed(run_id=run_id, summary="Too little memory."))
    assert scope.session.failures["checkup"] == "Too little memory."
    assert not scope.session.is_checking_up
    scope.controller.check_up()
    assert "checkup" not in scope.session.failures


def test_a_check_up_that_the_engine_did_not_survive_is_not_started_again_by_itself(scope):
    scope.controller.check_up()
    scope.waiting = []
    scope.controller.apply(EngineLost(run_id=0, summary="Killed."))
    assert "did not come to its end" in scope.session.failures["checkup"]
    n_before = len(scope.checks)
    scope.jobs = Jobs(FakeEngine(0), scope.controller.apply)
    scope.start()
    assert scope.session.engine.status == "ready"
    assert len(scope.checks) == n_before
    scope.controller.close_sae(SECOND)
    scope.run()
    assert len(scope.checks) == n_before + 1
    assert "checkup" not in scope.session.failures


def test_an_engine_lost_at_other_times_is_checked_again(scope):
    scope.controller.apply(EngineLost(run_id=0, summary="Killed."))
    scope.jobs = Jobs(FakeEngine(0), scope.controller.apply)
    n_before = len(scope.checks)
    scope.start()
    assert len(scope.checks) == n_before + 1


def test_imported_labels_go_to_the_sae_s_store_and_are_shown_when_they_are_there(scope):
    scope.controller.import_labels("/x.jsonl", SECOND)
    assert scope.imports == [("/x.jsonl", SECOND, f"/pages/{SECOND}")]
    assert SECOND in scope.session.news
    scope.shelf.labels = {4: FeaturePage(FeatureId("x", 4), "bridges")}
    done = LabelsImported(run_id=0, sae=SECOND, summary="Imported 1 label.")
    scope.controller.apply(done)
    assert {str(feature) for feature in scope.session.pages} == {f"{SECOND}:4"}
    assert scope.session.news == "Imported 1 label."


def test_a_refused_import_is_said_where_saes_are_and_the_next_one_clears_it(scope):
    scope.controller.apply(LabelsRefused(run_id=0, sae=SECOND, summary="It is damaged."))
    assert scope.session.failures["saes"] == "It is damaged."
    scope.controller.import_labels("/x.jsonl", SECOND)
    assert "saes" not in scope.session.failures
    scope.controller.import_labels("damaged")
    assert scope.session.failures["saes"] == "The file is damaged."
    assert len(scope.imports) == 1


def card(name, site):
    return SaeCard(name, "/s", site, "standard", 8, 8)


def test_labels_are_for_the_sae_of_their_layer_or_the_only_one_or_it_is_asked():
    shelf = Shelf()
    module = card("m", "module:model.layers.3.mlp.output")
    saes = (card("a", FIRST), card("b", SECOND), module)
    shelf.layer = 1
    assert target(saes, "", "/x", shelf).name == "b"
    assert target(saes, "a", "/x", shelf).name == "a"
    shelf.layer = None
    assert target(saes[:1], "", "/x", shelf).name == "a"
    for some, name in ((saes, ""), ((), ""), (saes, "z")):
        with pytest.raises(LabelsUnreadable, match="for is not clear"):
            target(some, name, "/x", shelf)
    shelf.layer = 5
    with pytest.raises(LabelsUnreadable, match="for is not clear"):
        target(saes[:1], "", "/x", shelf)
