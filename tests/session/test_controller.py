"""The controller with the fake engine at the other end of a list."""

import pytest

from microscope.core.features import FeatureId
from microscope.core.messages import (
    Cancel,
    CheckUp,
    EngineLost,
    EngineReady,
    Generate,
    OpenModel,
    OpenSaes,
    Read,
    RunFailed,
    RunFinished,
    TextWritten,
)
from microscope.core.pages import FeaturePage
from microscope.core.prompts import Prompt, Sampler, Token
from microscope.core.sites import resid_post
from microscope.engine.fake import N_LAYERS, FakeEngine
from microscope.engine.server import Jobs
from microscope.session.controller import Controller
from microscope.session.session import RESTARTING, Session
from microscope.session.setup import Setup

SAE = resid_post(0)
FEATURE, OTHER = FeatureId(SAE, 7), FeatureId(SAE, 8)
READY = EngineReady(run_id=0, protocol=1, versions={}, devices=("cpu",))


class FakeShelf:
    def folder_of(self, source):
        return f"/models/{source}"

    def saes_of(self, source):
        return (f"/models/{source}/saes",)

    def pages_of(self, model, sae):
        feature = FeatureId(sae.name, 7)
        return {feature: FeaturePage(feature, label="bridges", max_activation=4.0)}

    def published_of(self, sae):
        return None


class EngineOnAList:
    """A sink that runs the fake engine when the test says so."""

    def __init__(self):
        self.requests = []
        self.restarts = 0

    def submit(self, request):
        self.requests.append(request)

    def restart(self):
        self.restarts += 1

    def of(self, kind):
        return [request for request in self.requests if isinstance(request, kind)]


class Scope:
    """Session, controller and engine in one thread."""

    def __init__(self, **setup):
        self.session = Session(
            setup=Setup(
                **{"prompt": Prompt("one two"), "saes": ("/s",), "max_new_tokens": 4, **setup}
            )
        )
        self.sink = EngineOnAList()
        self.controller = Controller(self.session, self.sink, FakeShelf())
        self.jobs = Jobs(FakeEngine(0), self.controller.apply)

    def run(self):
        """Let the engine work until it has nothing left to do."""
        while self.sink.requests or self.jobs:
            for request in self.sink.requests:
                self.jobs.start(request)
            self.sink.requests = []
            self.jobs.advance()

    def start(self):
        self.controller.apply(READY)
        self.run()
        return self


@pytest.fixture
def scope():
    return Scope().start()


def test_the_first_start_opens_reads_and_writes(scope):
    session = scope.session
    assert session.model.source == "/models/specimen"
    assert [sae.name for sae in session.saes] == [SAE]
    assert [token.text for token in session.tokens] == ["<bos>", "one", " two"]
    assert session.lens.ids.shape == (N_LAYERS + 1, 3, 10)
    assert (session.lens.ids >= 0).all()
    assert session.features[SAE].activation(8, 1) == 3.0
    assert len(session.baseline) == 4
    assert session.steered == session.baseline
    assert session.engine.status == "ready"
    assert not session.is_reading
    assert not session.is_writing


def test_a_clamp_starts_at_the_feature_s_maximum_and_steers(scope):
    scope.controller.add_clamp(FEATURE)
    scope.run()
    assert {written.token.text for written in scope.session.steered} == {"4 "}
    assert [written.kl for written in scope.session.steered] == [0.5] * 4
    assert scope.session.cursor.feature == FEATURE


def test_a_clamp_without_a_page_starts_at_the_largest_activation_seen(scope):
    on_first_token = int(scope.session.features[SAE].indices[0, 0])
    scope.controller.add_clamp(FeatureId(SAE, on_first_token))
    assert scope.session.setup.clamps[0].value == 6.0


def test_dragging_asks_for_the_text_only_and_for_nothing_when_nothing_changes(scope):
    scope.controller.add_clamp(FEATURE)
    scope.run()
    scope.controller.set_clamp_value(FEATURE, 9.0)
    scope.controller.set_clamp_value(FEATURE, 9.0)
    assert [type(request) for request in scope.sink.requests] == [Generate]


def test_two_hundred_moves_leave_the_last_one_s_text(scope):
    scope.controller.add_clamp(FEATURE)
    for step in range(200):
        scope.controller.set_clamp_value(FEATURE, float(step))
    scope.run()
    assert {written.token.text for written in scope.session.steered} == {"199 "}


def test_events_of_an_outdated_run_are_ignored(scope):
    scope.controller.add_clamp(FEATURE)
    outdated = scope.sink.of(Generate)[-1].run_id
    scope.controller.set_clamp_value(FEATURE, 2.0)
    before = scope.session.steered
    late = TextWritten(
        run_id=outdated,
        stream="steered",
        position=0,
        tokens=(Token(1, "late"),),
        probabilities=(1.0,),
    )
    scope.controller.apply(late)
    scope.controller.apply(RunFinished(run_id=outdated))
    assert scope.session.steered == before
    assert scope.session.is_writing


def test_a_drag_is_one_undo_step(scope):
    scope.controller.add_clamp(FEATURE)
    for value in (1.0, 2.0, 3.0):
        scope.controller.set_clamp_value(FEATURE, value)
    scope.controller.end_gesture()
    scope.controller.set_clamp_value(FEATURE, 5.0)
    scope.controller.undo()
    assert scope.session.setup.clamps[0].value == 3.0
    scope.controller.undo()
    assert scope.session.setup.clamps[0].value == 4.0
    scope.controller.undo()
    assert scope.session.setup.clamps == ()
    assert not scope.session.can_undo
    scope.controller.redo()
    assert scope.session.setup.clamps[0].value == 4.0
    scope.run()
    assert {written.token.text for written in scope.session.steered} == {"4 "}


def test_every_kind_of_change_can_be_undone(scope):
    controller, session = scope.controller, scope.session
    start = session.setup
    changes = [
        lambda: controller.set_prompt("three"),
        lambda: controller.set_chat(True),
        lambda: controller.add_clamp(FEATURE),
        lambda: controller.set_clamp_mode(FEATURE, "scale"),
        lambda: controller.mute_clamp(FEATURE, True),
        lambda: controller.remove_clamp(FEATURE),
        lambda: controller.set_sampler(Sampler(temperature=0.0)),
        lambda: controller.set_seed(5),
        lambda: controller.set_max_new_tokens(7),
        lambda: controller.open_saes(("/t",)),
        lambda: controller.close_sae(SAE),
        lambda: controller.open_model("other"),
    ]
    seen = [start]
    for change in changes:
        change()
        scope.run()
        assert session.setup != seen[-1]
        seen.append(session.setup)
    for setup in reversed(seen[:-1]):
        controller.undo()
        scope.run()
        assert session.setup == setup


def test_a_muted_clamp_changes_nothing_and_is_not_asked_for(scope):
    scope.controller.add_clamp(FEATURE)
    scope.run()
    scope.controller.mute_clamp(FEATURE, True)
    assert scope.sink.of(Generate)[-1].clamps == ()
    scope.run()
    assert scope.session.steered == scope.session.baseline


def test_a_clamp_is_put_on_the_rack_once(scope):
    scope.controller.add_clamp(FEATURE)
    scope.controller.add_clamp(FEATURE)
    assert len(scope.session.setup.clamps) == 1


def test_closing_an_sae_takes_its_clamps_along(scope):
    scope.controller.add_clamp(FEATURE)
    scope.run()
    scope.controller.close_sae(SAE)
    scope.run()
    assert scope.session.saes == ()
    assert scope.session.setup.clamps == ()
    assert scope.session.features == {}


def test_closing_an_sae_while_others_are_being_opened_keeps_them():
    scope = Scope(saes=("/s0", "/s1", "/s2"))
    scope.controller.apply(READY)
    while not scope.session.saes:
        for request in scope.sink.requests:
            scope.jobs.start(request)
        scope.sink.requests = []
        scope.jobs.advance()
    scope.controller.close_sae(SAE)
    assert scope.session.setup.saes == ("/s1", "/s2")


def test_a_chosen_feature_goes_with_its_sae(scope):
    scope.controller.choose_feature(FEATURE)
    scope.controller.close_sae("another")
    assert scope.session.cursor.feature == FEATURE
    scope.controller.close_sae(SAE)
    assert scope.session.cursor.feature is None


def test_a_text_of_no_tokens_takes_the_old_one_s_place(scope):
    assert scope.session.baseline
    scope.controller.set_max_new_tokens(0)
    scope.run()
    assert (scope.session.baseline, scope.session.steered) == ((), ())


def test_another_model_comes_with_its_own_saes_and_no_clamps(scope):
    scope.controller.add_clamp(FEATURE)
    scope.run()
    scope.controller.open_model("gpt2")
    assert scope.session.model is None
    scope.run()
    assert scope.session.model.source == "/models/gpt2"
    assert scope.session.setup.saes == ("/models/gpt2/saes",)
    assert scope.session.setup.clamps == ()


def test_a_restart_that_was_asked_for_is_not_told_as_a_loss(scope):
    lost = EngineLost(run_id=0, summary="The engine was killed.", will_restart=True)
    scope.controller.restart_engine()
    scope.controller.apply(lost)
    assert scope.session.engine == RESTARTING
    scope.start()
    scope.controller.apply(lost)
    assert scope.session.engine.status == "lost"


def test_a_refused_model_says_so_and_the_window_stays_usable(scope, monkeypatch):
    monkeypatch.setattr(FakeShelf, "folder_of", lambda _self, _source: "missing")
    scope.controller.set_prompt("is being read and written on")
    scope.controller.open_model("missing")
    scope.run()
    assert "no model in the folder" in scope.session.failures["model"]
    assert (scope.session.saes, scope.session.tokens, scope.session.baseline) == ((), (), ())
    assert not scope.session.is_reading
    assert not scope.session.is_writing
    scope.controller.set_prompt("still typing")
    assert scope.session.setup.prompt.text == "still typing"
    monkeypatch.undo()
    scope.controller.undo()
    scope.controller.undo()
    scope.run()
    assert scope.session.model.source == "/models/specimen"
    assert "model" not in scope.session.failures


def test_an_sae_that_does_not_fit_is_named_and_the_others_open():
    scope = Scope(saes=tuple(f"/s{n}" for n in range(N_LAYERS + 2))).start()
    assert len(scope.session.saes) == N_LAYERS
    assert scope.session.failures["saes"] == "No such layer.\nNo such layer."


def test_an_empty_prompt_is_no_failure_and_leaves_nothing_of_the_last_one(scope):
    scope.controller.set_prompt("one two three")  # its runs are still on their way
    scope.controller.set_prompt("")
    session = scope.session
    for _ in range(2):
        assert (session.tokens, session.lens, session.features) == ((), None, {})
        assert (session.baseline, session.steered) == ((), ())
        assert not session.failures
        assert not session.is_reading
        assert not session.is_writing
        scope.run()
    scope.controller.set_prompt("one")
    scope.run()
    assert session.lens.n_tokens == 2
    assert session.baseline


def test_a_pasted_prompt_is_undone_without_what_was_typed_before(scope):
    for text in ("o", "on", "one", "one long text", ""):  # typed over, typed, pasted, cleared
        scope.controller.set_prompt(text)
    undone = []
    for _ in range(3):
        scope.controller.undo()
        undone.append(scope.session.setup.prompt.text)
    assert undone == ["one long text", "one", "one two"]


def test_without_a_prompt_the_check_up_starts_all_the_same():
    scope = Scope(prompt=Prompt(""))
    scope.controller.apply(READY)
    scope.run()
    assert scope.session.checkup
    assert not scope.session.failures


def test_the_cursor_stays_inside_a_shorter_prompt(scope):
    scope.controller.choose_cell(2, 4)
    scope.controller.set_prompt("one")
    scope.run()
    assert (scope.session.cursor.token, scope.session.cursor.site) == (1, 4)


def test_the_cursor_starts_at_the_last_token_s_output_and_follows_the_typing(scope):
    cursor = scope.session.cursor
    assert (cursor.token, cursor.site) == (2, N_LAYERS)
    scope.controller.set_prompt("one two three four")
    scope.run()
    assert scope.session.cursor.token == 4
    scope.controller.choose_cell(1, 2)
    scope.controller.set_prompt("one two three")
    scope.run()
    assert (scope.session.cursor.token, scope.session.cursor.site) == (1, 2)


def test_stopping_keeps_what_is_written_and_cancels(scope):
    scope.controller.set_max_new_tokens(100)
    for request in scope.sink.requests:
        scope.jobs.start(request)
    scope.sink.requests = []
    for _ in range(6):
        scope.jobs.advance()
    scope.controller.stop()
    assert isinstance(scope.sink.requests[-1], Cancel)
    scope.run()
    assert 0 < len(scope.session.baseline) < 100
    assert not scope.session.is_writing


def test_a_lost_engine_keeps_all_and_a_new_one_is_asked_for_all_again(scope):
    scope.controller.add_clamp(FEATURE)
    scope.run()
    setup, text = scope.session.setup, scope.session.steered
    lost = EngineLost(run_id=0, summary="The engine process was killed.")
    scope.controller.apply(lost)
    assert scope.session.engine.status == "lost"
    assert "started again" in scope.session.engine.message
    assert (scope.session.setup, scope.session.steered) == (setup, text)
    scope.jobs = Jobs(FakeEngine(0), scope.controller.apply)
    scope.controller.apply(READY)
    kinds = []
    while scope.sink.requests or scope.jobs:
        kinds += [type(request) for request in scope.sink.requests]
        for request in scope.sink.requests:
            scope.jobs.start(request)
        scope.sink.requests = []
        scope.jobs.advance()
    assert kinds == [OpenModel, OpenSaes, Read, Generate, CheckUp]
    assert scope.session.steered == text


def test_a_failed_run_says_why_in_its_own_place(scope):
    scope.controller.regenerate()
    run_id = scope.sink.of(Generate)[-1].run_id
    scope.controller.apply(RunFailed(run_id=run_id, summary="No luck."))
    assert scope.session.failures == {"text": "No luck."}
    assert not scope.session.is_writing


def test_restarting_the_engine_is_passed_on(scope):
    scope.controller.restart_engine()
    assert scope.sink.restarts == 1
    assert scope.session.engine.status == "starting"


def test_typing_reads_and_writes_the_newest_prompt(scope):
    for text in ("t", "th", "the"):
        scope.controller.set_prompt(text)
    assert scope.sink.of(Read)[-1].prompt.text == "the"
    scope.run()
    assert [token.text for token in scope.session.tokens] == ["<bos>", "the"]
    scope.controller.undo()
    assert scope.session.setup.prompt.text == "one two"


def test_a_batch_of_events_is_heard_once_a_field(scope):
    events, heard = [], []
    scope.controller.set_prompt("three")
    scope.controller.set_max_new_tokens(6)
    jobs = Jobs(FakeEngine(0), events.append)
    for request in scope.sink.requests:
        jobs.start(request)
    while jobs:
        jobs.advance()
    for name in ("lens", "tokens", "baseline", "steered", "is_reading", "is_writing"):
        scope.session.events[name].connect(lambda *_args, name=name: heard.append(name))
    scope.controller.apply_all(events)
    assert len(events) > 10
    expected = {"lens", "tokens", "baseline", "steered", "is_reading", "is_writing"}
    assert sorted(heard) == sorted(expected)
    assert len(scope.session.baseline) == 6
