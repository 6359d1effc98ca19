"""Whole requests on a tiny model: what comes out equals transformers and a plain loop."""

import numpy as np
import pytest
import torch
from tiny_models import D_MODEL, N_LAYERS, tiny_model
from tiny_saes import save_saelens

from microscope.core.errors import ClampRejected, NotReady, PromptRejected, SamplerRejected
from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import (
    FeaturesRead,
    Generate,
    KlMeasured,
    LensRead,
    ModelOpened,
    OpenModel,
    OpenSaes,
    PromptTokenised,
    Read,
    SaeOpened,
    SaeRefused,
    TextWritten,
)
from microscope.core.prompts import Prompt, Sampler
from microscope.core.sites import lens_sites, resid_post
from microscope.engine.model_engine import ModelEngine
from microscope.engine.reading import CELLS_PER_STEP, rectangles

SAE = resid_post(1)
PROMPT = Prompt("The cat on the bridge")
HOT = Sampler(temperature=1.0)
CLAMP = Clamp(FeatureId(SAE, 3), 25.0)


def save_sae(folder, site, *, d_in=D_MODEL, seed=0):
    metadata = {"sae_lens_version": "6.54.12", "hook_name": site}
    save_saelens(folder, d_in=d_in, n_features=40, seed=seed, metadata=metadata)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("saes")
    for layer in range(2):
        save_sae(root / resid_post(layer), resid_post(layer), seed=layer)
    return tiny_model("llama", tmp_path_factory), root


@pytest.fixture(scope="module")
def engine(folders):
    model, saes = folders
    engine = ModelEngine()
    opened = list(engine.handle(OpenModel(run_id=1, source=str(model), device="cpu")))
    assert isinstance(opened[-1], ModelOpened)
    opened = list(engine.handle(OpenSaes(run_id=2, sources=(str(saes),))))
    assert [event.sae.name for event in opened if isinstance(event, SaeOpened)] == [
        resid_post(0),
        resid_post(1),
    ]
    return engine


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def ids(events, stream):
    texts = [event for event in of(events, TextWritten) if event.stream == stream]
    assert [event.position for event in texts] == list(
        np.cumsum([0, *(len(event.tokens) for event in texts)])[:-1]
    )
    return [token.id for event in texts for token in event.tokens]


def generate(engine, **fields):
    request = Generate(run_id=1, prompt=PROMPT, max_new_tokens=12, **fields)
    return list(engine.handle(request))


def test_a_reading_fills_every_cell_once_and_the_output_first(engine):
    events = list(engine.handle(Read(run_id=1, prompt=PROMPT)))
    n_tokens = len(of(events, PromptTokenised)[0].tokens)
    filled = np.zeros((N_LAYERS + 1, n_tokens), int)
    pieces = of(events, LensRead)
    for piece in pieces:
        rows, columns, top = piece.ids.shape
        assert top == 10
        assert set(piece.ids.flat) <= set(piece.texts)
        filled[piece.site : piece.site + rows, piece.token : piece.token + columns] += 1
    assert (filled == 1).all()
    assert pieces[0].site + pieces[0].ids.shape[0] == len(lens_sites(N_LAYERS))
    assert {event.sae for event in of(events, FeaturesRead)} == {resid_post(0), SAE}


@pytest.mark.parametrize(("n_sites", "n_tokens"), [(1, 1), (13, 14), (9, 128), (27, 300)])
def test_rectangles_cover_the_grid_exactly(n_sites, n_tokens):
    grid = np.zeros((n_sites, n_tokens), int)
    for first_site, last_site, first, last in rectangles(n_sites, n_tokens):
        area = grid[first_site:last_site, first:last]
        assert 0 < area.size <= CELLS_PER_STEP
        area += 1
    assert (grid == 1).all()


def test_the_last_row_is_transformers_own_softmax(engine):
    events = list(engine.handle(Read(run_id=1, prompt=PROMPT)))
    prompt = [token.id for token in of(events, PromptTokenised)[0].tokens]
    network = engine._model.network
    with torch.no_grad():
        expected = network(torch.tensor([prompt])).logits[0].softmax(-1)
    piece = of(events, LensRead)[0]
    p = expected.gather(1, torch.tensor(piece.ids[-1]).long())
    assert abs(p.numpy() - piece.p[-1]).max() < 1e-5


def test_a_clamped_reading_differs_above_the_clamp_only(engine):
    def rows(clamps):
        events = engine.handle(Read(run_id=1, prompt=PROMPT, clamps=clamps))
        pieces = sorted(of(events, LensRead), key=lambda piece: piece.site)
        return np.concatenate([piece.logsumexp for piece in pieces])

    change = abs(rows((CLAMP,)) - rows(())).max(axis=1)
    assert (change[:2] == 0).all()
    assert (change[2:] > 1e-3).all()


def test_without_clamps_greedy_text_is_transformers_own(engine):
    events = generate(engine, sampler=Sampler(temperature=0.0))
    prompt = [token.id for token in of(events, PromptTokenised)[0].tokens]
    expected = engine._model.network.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=12, pad_token_id=0
    )
    assert ids(events, "baseline") == expected[0, len(prompt) :].tolist()
    assert ids(events, "steered") == []


def test_a_clamp_steers_and_every_steered_token_has_a_kl(engine):
    events = generate(engine, clamps=(CLAMP,), sampler=HOT, seed=3)
    steered, baseline = ids(events, "steered"), ids(events, "baseline")
    assert steered
    assert steered != baseline
    kl = np.concatenate([event.values for event in of(events, KlMeasured)])
    assert kl.shape == (len(steered),)
    assert (kl > 0).all()


def test_a_clamp_that_changes_nothing_gives_the_baseline_s_text(engine):
    nothing = Clamp(CLAMP.feature, 0.0, "add")
    events = generate(engine, clamps=(nothing,), sampler=HOT, seed=3)
    assert ids(events, "steered") == ids(events, "baseline")
    assert max(event.values.max() for event in of(events, KlMeasured)) < 1e-9


def test_the_baseline_is_written_once_and_continued_when_interrupted(engine, monkeypatch):
    fresh = ModelEngine()
    fresh.__dict__.update(engine.__dict__)
    calls = []
    step = type(engine._model).step
    monkeypatch.setattr(
        type(engine._model), "step", lambda *args, **kw: calls.append(1) or step(*args, **kw)
    )
    whole = ids(generate(engine, sampler=HOT, seed=11), "baseline")
    assert len(calls) == 12
    again = generate(engine, sampler=HOT, seed=11)
    assert len(calls) == 12
    assert ids(again, "baseline") == whole
    part = engine.handle(
        Generate(run_id=1, prompt=PROMPT, sampler=HOT, seed=12, max_new_tokens=12)
    )
    for _ in range(5):
        next(part)
    part.close()
    n_before = len(calls)
    assert len(ids(generate(engine, sampler=HOT, seed=12), "baseline")) == 12
    assert len(calls) - n_before == 12 - 4


def test_saes_that_are_open_stay_open_and_others_are_closed(engine, folders):
    _, root = folders
    first, second = str(root / resid_post(0)), str(root / resid_post(1))
    before = dict(engine._saes)
    list(engine.handle(OpenSaes(run_id=1, sources=(second,))))
    assert list(engine._saes) == [SAE]
    assert engine._saes[SAE] is before[SAE]
    list(engine.handle(OpenSaes(run_id=1, sources=(first, second))))
    assert list(engine._saes) == [resid_post(0), SAE]


def test_an_sae_of_another_width_is_refused_and_the_rest_open(engine, folders, tmp_path):
    _, root = folders
    save_sae(tmp_path / "wide", SAE, d_in=D_MODEL * 2)
    sources = (str(tmp_path / "wide"), str(tmp_path / "nowhere"), str(root))
    events = list(engine.handle(OpenSaes(run_id=1, sources=sources)))
    refused = {event.source: event.summary for event in of(events, SaeRefused)}
    assert f"width {D_MODEL * 2}" in refused[sources[0]]
    assert "no folder" in refused[sources[1]]
    assert len(of(events, SaeOpened)) == 2


def test_two_saes_at_one_site_get_names_of_their_own(engine, folders, tmp_path):
    _, root = folders
    save_sae(tmp_path / "other", SAE, seed=9)
    events = engine.handle(
        OpenSaes(run_id=1, sources=(str(root / SAE), str(tmp_path / "other")))
    )
    assert [event.sae.name for event in of(events, SaeOpened)] == [SAE, f"{SAE}#2"]
    list(engine.handle(OpenSaes(run_id=1, sources=(str(root),))))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Read(run_id=1, prompt=Prompt("")), PromptRejected),
        (Read(run_id=1, prompt=Prompt("word " * 999)), PromptRejected),
        (
            Generate(run_id=1, prompt=PROMPT, clamps=(Clamp(FeatureId(SAE, 40), 1.0),)),
            ClampRejected,
        ),
        (
            Generate(run_id=1, prompt=PROMPT, clamps=(Clamp(FeatureId("x", 0), 1.0),)),
            ClampRejected,
        ),
        (Generate(run_id=1, prompt=PROMPT, sampler=Sampler(top_p=0)), SamplerRejected),
    ],
)
def test_what_cannot_be_done_is_said(engine, request_, error):
    with pytest.raises(error, match=r"\."):
        list(engine.handle(request_))


def test_nothing_is_read_before_a_model_is_open():
    with pytest.raises(NotReady, match="Open one"):
        list(ModelEngine().handle(Read(run_id=1, prompt=PROMPT)))


def test_the_model_is_as_it_was_found_after_runs_that_were_dropped(engine):
    network = engine._model.network
    ids_ = torch.tensor([[1, 2, 3, 4]])
    before = network(ids_).logits
    run = engine.handle(Generate(run_id=1, prompt=PROMPT, clamps=(CLAMP,)))
    for _ in range(4):
        next(run)
    torch.testing.assert_close(network(ids_).logits, before, rtol=0, atol=0)
    run.close()
    torch.testing.assert_close(network(ids_).logits, before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in network.modules())


def test_saes_of_one_site_are_numbered_by_the_order_of_their_sources(engine, tmp_path):
    sources = [str(tmp_path / name) for name in "ab"]
    for seed, source in enumerate(sources):
        save_sae(tmp_path / source, SAE, seed=seed)

    def names(*asked):
        events = engine.handle(OpenSaes(run_id=1, sources=asked))
        return {event.sae.name: event.sae.source for event in of(events, SaeOpened)}

    before = engine._saes
    try:
        both = dict(zip((SAE, f"{SAE}#2"), sources, strict=True))
        assert names(*sources) == both
        assert names(sources[1]) == {SAE: sources[1]}
        assert names(*sources) == both
        assert {name: sae.card.source for name, sae in engine._saes.items()} == both
    finally:
        engine._saes = before


def test_a_baseline_that_failed_is_written_again(engine, monkeypatch):
    def fail(*_args, **_kwargs):
        raise MemoryError

    events = engine.handle(Generate(run_id=1, prompt=PROMPT, max_new_tokens=7, seed=99))
    next(event for event in events if isinstance(event, TextWritten))
    with monkeypatch.context() as patch:
        patch.setattr("microscope.engine.generation.choose", fail)
        with pytest.raises(MemoryError):
            list(events)
    again = list(engine.handle(Generate(run_id=1, prompt=PROMPT, max_new_tokens=7, seed=99)))
    assert len(ids(again, "baseline")) == 7
